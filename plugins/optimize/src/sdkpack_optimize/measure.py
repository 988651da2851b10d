"""How large a model is: what a pass must lessen, or it leaves the model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sdkpack_optimize.files import node_lists_of, tensors_of

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["Size", "size_of", "tensor_bytes"]


class Size(NamedTuple):
    """Compared from left to right, so that every chain of passes ends: each step is less than the one before."""

    nodes: int
    """Of all graphs and functions."""
    edges: int
    """Inputs of these nodes."""
    bytes: int
    """Of initializers and constants."""
    tensors: int
    functions: int


def size_of(proto: ModelProto) -> Size:
    """Sizes of a model; external data counts by what its tensors say."""
    lists = list(node_lists_of(proto))
    tensors = list(tensors_of(proto))
    return Size(
        nodes=sum(len(nodes) for nodes in lists),
        edges=sum(len(node.input) for nodes in lists for node in nodes),
        bytes=sum(map(tensor_bytes, tensors)),
        tensors=len(tensors),
        functions=len(proto.functions),
    )


def tensor_bytes(tensor: TensorProto) -> int:
    """What a tensor's elements take: strings by their length, the others by their width in bits."""
    from math import prod

    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return int(prod(tensor.dims) * _bits(tensor.data_type) + 7) // 8


def _bits(data_type: int) -> int:
    import onnx_ir as ir

    try:
        return int(ir.DataType(data_type).bitwidth or 8)
    except (TypeError, ValueError):
        return 8
