"""Calls of the model's own functions become their bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["InlineFunctionsPass"]


class InlineFunctionsPass(IrPass):
    """Puts the nodes of local functions where they are called, by onnx-ir.

    Requires: functions that do not call themselves. Ensures: the model has no functions.
    """

    must_shrink = False

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass, RemoveUnusedOpsetsPass

        InlinePass()(model)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        RemoveUnusedOpsetsPass()(model)
        return ()

    def has_work(self, proto: ModelProto) -> bool:
        return bool(proto.functions)

    def is_worth(self, before: ModelProto, after: ModelProto) -> bool:
        return len(after.functions) < len(before.functions)
