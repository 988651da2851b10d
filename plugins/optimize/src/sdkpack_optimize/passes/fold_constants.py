"""What depends on constants alone is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass, params_of
from sdkpack_optimize.files import ModelFile, node_lists_of
from sdkpack_optimize.params import FoldParams

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FoldConstantsPass"]

_LOST: Final = ("saturate", "round_mode")


class FoldConstantsPass(IrPass):
    """Folds constants, shapes and branches on constants by onnxscript's optimizer, and makes constants initializers.

    Requires: nothing; shapes help. Ensures: no node has constant inputs alone, as far as its result is not larger than
    `max_elements`; what feeds nothing is gone; constants of all graphs are initializers of the main one.
    """

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        nodes = (node for nodes in node_lists_of(source.proto) for node in nodes if node.op_type == "CastLike")
        if any(attribute.name in _LOST for node in nodes for attribute in node.attribute):
            return "passed through: onnxscript 0.7 would lose the settings of a CastLike"
        return super().unfit(source, request)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        import onnxscript.optimizer
        from onnx_ir.passes import common

        params: FoldParams = params_of(request, FoldParams)
        # onnxscript infers node by node and stops at control flow; what lies behind it folds with these shapes only.
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
        onnxscript.optimizer.fold_constants_ir(model, onnx_shape_inference=True, output_size_limit=params.max_elements)
        for step in (
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.LiftSubgraphInitializersToMainGraphPass(),
        ):
            step(model)
        return ()
