"""What is computed twice is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["CommonSubexpressionsPass"]


class CommonSubexpressionsPass(IrPass):
    """Merges nodes with the same operator, attributes and inputs, by onnx-ir.

    Requires: nothing. Ensures: no two nodes of one graph compute the same.
    """

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import CommonSubexpressionEliminationPass

        CommonSubexpressionEliminationPass()(model)
        return ()
