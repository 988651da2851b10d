"""Shapes that a pass may build on: inferred anew, from the inputs alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

__all__ = ["constant_ints", "inferred_shapes", "known_dims"]


@contextmanager
def inferred_shapes(model: ir.Model) -> Iterator[None]:
    """Within it, the shapes are those that ONNX's inference finds, and no others.

    What exporters and libraries wrote down is put aside: inference trusts it, and some of it is wrong. Behind operators
    of other domains, where nothing can be inferred, it comes back in the end.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    old: dict[ir.Value, ir.Shape] = {}
    outputs = {value: value.shape for graph in model.graphs() for value in graph.outputs}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None:
                old[value] = value.shape
                value.shape = None
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    yield
    for value, shape in old.items():
        if value.shape is None:
            value.shape = shape
    for value, declared in outputs.items():
        value.shape = declared


def known_dims(value: ir.Value | None) -> list[int | str | None] | None:
    """A number, a name or None for each dimension; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape.dims]


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """The content of a constant of integers, as a flat list; None where it is none, or can be set by who runs it."""
    from onnx_ir.convenience import get_const_tensor

    if value is None or value.is_graph_input():
        return None
    tensor = get_const_tensor(value)
    if tensor is None or not tensor.dtype.is_integer():
        return None
    return [int(item) for item in tensor.numpy().reshape(-1)]
