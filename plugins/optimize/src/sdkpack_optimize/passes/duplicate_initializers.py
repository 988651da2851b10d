"""Constants that are the same are one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DuplicateInitializersPass"]


class DuplicateInitializersPass(IrPass):
    """Merges initializers of one type, shape and content.

    onnx-ir has a pass for it that keeps all contents in memory, and one that hashes them and fails on tensors whose
    memory is not in one piece; this one compares digests of one tensor at a time.

    Requires: nothing. Ensures: no two initializers of one graph are the same; initializers that are inputs or outputs
    are left alone.
    """

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        for graph in model.graphs():
            seen: dict[tuple[object, ...], ir.Value] = {}
            for name, value in list(graph.initializers.items()):
                if value.is_graph_input() or value.is_graph_output() or value.const_value is None:
                    continue
                kept = seen.setdefault(_identity(value.const_value), value)
                if kept is not value:
                    value.replace_all_uses_with(kept)
                    del graph.initializers[name]
        return ()


def _identity(tensor: ir.TensorProtocol) -> tuple[object, ...]:
    import hashlib

    import numpy as np
    import onnx_ir as ir

    kind = (tensor.dtype, tuple(tensor.shape))
    if tensor.dtype == ir.DataType.STRING:
        return (*kind, tuple(tensor.numpy().reshape(-1).tolist()))
    # Bytes, since narrow types have no buffers of their own.
    content = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
    return (*kind, hashlib.sha256(content.data).digest())
