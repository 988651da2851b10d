"""What leads to no output is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["UnusedPass"]


class UnusedPass(IrPass):
    """Drops nodes, initializers, functions and imports of operator sets that nothing uses, by onnx-ir.

    Requires: nothing. Ensures: every node leads to an output, every initializer to a node.
    """

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes import common

        for step in (
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
        ):
            step(model)
        return ()
