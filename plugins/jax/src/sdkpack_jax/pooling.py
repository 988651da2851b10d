"""Windows over two of four axes.

jax2onnx 0.17.1 writes them as a MaxPool over all four, which is ONNX, and which no runtime has a kernel for. Here they
become what every runtime has: two axes behind batch and channels.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["pool_two_axes"]

_RANK: Final = 4


def pool_two_axes(model: Any) -> None:
    """Rewrites `Unsqueeze, Unsqueeze, MaxPool, Squeeze` to `Transpose, MaxPool, Transpose` in the main graph."""
    graph = model.graph
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        settings = {attribute.name: list(attribute.ints) for attribute in pool.attribute if attribute.ints}
        if len(settings.get("kernel_shape", ())) == _RANK:
            _rewrite(graph, pool, settings)


def _rewrite(graph: Any, pool: Any, settings: dict[str, list[int]]) -> None:
    made_by = {output: node for node in graph.node for output in node.output}
    inner = made_by.get(pool.input[0])
    outer = made_by.get(inner.input[0]) if inner is not None else None
    users = [node for node in graph.node if pool.output[0] in node.input]
    if inner is None or outer is None:
        return
    if [node.op_type for node in (inner, outer, *users)] != ["Unsqueeze", "Unsqueeze", "Squeeze"]:
        return
    ones, zeros = [1] * _RANK, [0] * (2 * _RANK)
    kernel, strides = settings["kernel_shape"], settings.get("strides", ones)
    pads, dilations = settings.get("pads", zeros), settings.get("dilations", ones)
    moved = [a for a in range(_RANK) if (kernel[a], strides[a], pads[a], pads[a + _RANK]) != (1, 1, 0, 0)]
    if len(moved) > 2:
        return
    # A window of 1 along another axis changes nothing.
    spare = [axis for axis in reversed(range(_RANK)) if axis not in moved]
    moved = sorted([*moved, *spare[: 2 - len(moved)]])
    order = [*(axis for axis in range(_RANK) if axis not in moved), *moved]
    _replace(
        graph, pool, users[0], outer.input[0], order,
        kernel_shape=[kernel[a] for a in moved], strides=[strides[a] for a in moved],
        dilations=[dilations[a] for a in moved], pads=[pads[a + end] for end in (0, _RANK) for a in moved],
    )  # fmt: skip
    for node in (inner, outer):
        if not any(node.output[0] in other.input for other in graph.node):
            graph.node.remove(node)


def _replace(graph: Any, pool: Any, squeeze: Any, source: str, order: list[int], **settings: Any) -> None:
    from onnx import helper

    name, (result,) = pool.output[0], squeeze.output
    back = [order.index(axis) for axis in range(_RANK)]
    nodes = [
        helper.make_node("Transpose", [source], [f"{name}_before"], f"{pool.name}_before", perm=order),
        helper.make_node("MaxPool", [f"{name}_before"], [f"{name}_two"], f"{pool.name}_two", **settings),
        helper.make_node("Transpose", [f"{name}_two"], [result], f"{pool.name}_after", perm=back),
    ]
    place = list(graph.node).index(pool)
    for node in (pool, squeeze):
        graph.node.remove(node)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
