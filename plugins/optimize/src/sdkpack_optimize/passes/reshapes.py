"""Chains of operators that only change a shape become one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import fresh_name, replace_value
from sdkpack_optimize.shapes import constant_ints, inferred_shapes, known_dims

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ReshapesPass"]

_RESHAPES: Final = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Transpose")


class ReshapesPass(IrPass):
    """Reads the value at the beginning of a chain of Reshape, Squeeze, Unsqueeze, Flatten and of Transpose that only
    moves dimensions of size 1, and makes one Reshape of the chain, or nothing where the shapes are the same. Slices
    that take everything go too.

    The libraries merge a Reshape with a Reshape; converters from NHWC leave the other pairs, by dozens.

    Requires: shapes that ONNX can infer, with at most one open dimension. Ensures: no such chain is longer than one.
    """

    needs = (*_RESHAPES, "Slice")

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        changed = False
        with inferred_shapes(model):
            for graph in model.graphs():
                for node in list(graph):
                    if _takes_everything(node):
                        changed |= _bypass(node, node.inputs[0])
                    elif _only_reshapes(node):
                        changed |= _shorten(graph, node)
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


def _only_reshapes(node: ir.Node) -> bool:
    """Whether the elements keep their order."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _RESHAPES or not node.inputs or len(node.outputs) != 1:
        return False
    if node.op_type != "Transpose":
        return True
    dims = known_dims(node.inputs[0])
    if dims is None:
        return False
    order = node.attributes.get_ints("perm", list(reversed(range(len(dims)))))
    moved = [axis for axis in order if dims[axis] != 1]
    return moved == sorted(moved)


def _shorten(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    length = 1
    while source is not None and (producer := source.producer()) is not None and _only_reshapes(producer):
        if producer.graph is not graph:
            break
        source = producer.inputs[0]
        length += 1
    wanted, given = _sizes(node.outputs[0]), _sizes(source)
    if source is None or wanted is None:
        return False
    # Of one open dimension the number of elements says how large it is; a size of 0 would leave it unsaid.
    if sum(dim is None for dim in wanted) > 1 or 0 in wanted:
        return False
    if wanted == given:
        return _bypass(node, source)
    if length > 1:
        _replace(graph, node, source, wanted)
    return length > 1


def _sizes(value: ir.Value | None) -> list[int | None] | None:
    dims = known_dims(value)
    return None if dims is None else [dim if isinstance(dim, int) else None for dim in dims]


def _takes_everything(node: ir.Node) -> bool:
    """A Slice from 0 to beyond the end, by ones, of each axis that it names."""
    if node.domain not in ("", "ai.onnx") or node.op_type != "Slice" or len(node.inputs) < 3:
        return False
    starts, ends = constant_ints(node.inputs[1]), constant_ints(node.inputs[2])
    steps = constant_ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    if starts is None or ends is None or steps is None:
        return False
    beyond = 2**31 - 1
    return not any(starts) and all(end >= beyond for end in ends) and all(step == 1 for step in steps)


def _bypass(node: ir.Node, source: ir.Value | None) -> bool:
    """Readers of the node read its source. A graph's output keeps its node, and its name."""
    if source is None or node.outputs[0].is_graph_output():
        return False
    node.outputs[0].replace_all_uses_with(source)
    return True


def _replace(graph: ir.Graph, node: ir.Node, source: ir.Value, wanted: list[int | None]) -> None:
    """One Reshape from the source in the node's place; -1 stands for the open dimension."""
    import numpy as np
    import onnx_ir as ir

    content = np.array([-1 if dim is None else dim for dim in wanted], np.int64)
    name = fresh_name(graph, f"{node.outputs[0].name}_shape")
    shape = ir.Value(name=name, const_value=ir.tensor(content, name=name))
    shape.shape, shape.type = ir.Shape([len(wanted)]), ir.TensorType(ir.DataType.INT64)
    graph.register_initializer(shape)
    if node.op_type == "Reshape":
        node.replace_input_with(0, source)
        node.replace_input_with(1, shape)
        node.attributes.pop("allowzero", None)
        return
    reshape = ir.node("Reshape", [source, shape])
    graph.insert_before(node, reshape)
    replace_value(node.outputs[0], reshape.outputs[0])
