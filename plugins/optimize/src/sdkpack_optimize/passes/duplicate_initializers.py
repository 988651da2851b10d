"""Constants that are the same are one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DuplicateInitializersPass"]

_END: Final = 4096
"""Bytes of either end of a tensor."""


class DuplicateInitializersPass(IrPass):
    """Merges initializers of one type, shape and content.

    onnx-ir has a pass for it that keeps all contents in memory, and one that hashes them and fails on tensors whose
    memory is not in one piece; this one compares digests of one tensor at a time.

    Requires: nothing. Ensures: no two initializers of one graph are the same; initializers that are inputs or outputs
    are left alone.
    """

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        for graph in model.graphs():
            alike: dict[tuple[object, ...], list[ir.Value]] = {}
            for value in graph.initializers.values():
                if not (value.is_graph_input() or value.is_graph_output() or value.const_value is None):
                    alike.setdefault(_glance(value.const_value), []).append(value)
            for values in alike.values():
                _merge(graph, values)
        return ()


def _merge(graph: ir.Graph, values: list[ir.Value]) -> None:
    """Of those that look alike, those that are the same become the first one of them."""
    if len(values) < 2:
        return
    seen: dict[bytes, ir.Value] = {}
    for value in values:
        assert value.const_value is not None
        kept = seen.setdefault(_digest(value.const_value), value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            assert value.name is not None
            del graph.initializers[value.name]


def _glance(tensor: ir.TensorProtocol) -> tuple[object, ...]:
    """Type, shape and both ends: of gigabytes of weights, most need not be read to be told apart."""
    content = _content(tensor)
    return (tensor.dtype, tuple(tensor.shape), bytes(content[:_END]), bytes(content[-_END:]))


def _digest(tensor: ir.TensorProtocol) -> bytes:
    import hashlib

    return hashlib.sha256(_content(tensor)).digest()


def _content(tensor: ir.TensorProtocol) -> memoryview:
    """The bytes of a tensor; strings each with its length before it."""
    import numpy as np
    import onnx_ir as ir

    if tensor.dtype == ir.DataType.STRING:
        words = [bytes(word) for word in tensor.numpy().reshape(-1).tolist()]
        return memoryview(b"".join(len(word).to_bytes(8, "little") + word for word in words))
    # As bytes, since narrow types have no buffers of their own.
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
