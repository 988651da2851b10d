"""Identities, chains of reshapes, casts and transposes, and the fusions of convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import drop_identities

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RewritePass"]


class RewritePass(IrPass):
    """onnxscript's rules for everybody: x + 0, x * 1, reshapes of reshapes, casts of casts, slices that take all, clips
    of clips, batch norms and pads into convolutions.

    Requires: nothing; shapes help. Ensures: no rule applies any more that makes the model smaller.
    """

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript")

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes import common
        from onnxscript import rewriter

        common.ShapeInferencePass()(model)
        rewriter.rewrite(model)
        drop_identities(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        return ()
