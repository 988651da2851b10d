"""Small edits of graphs that several passes make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["drop_identities", "fresh_name", "is_onnx", "only_reader", "replace_value", "scalar_of"]


def fresh_name(graph: ir.Graph, wanted: str) -> str:
    """`wanted`, or with the least number behind it that makes it new among the graph's initializers.

    Clashes with other values are mended when the model is written.
    """
    name, number = wanted, 0
    while name in graph.initializers:
        number += 1
        name = f"{wanted}_{number}"
    return name


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """`new` takes the place, the name, the type and the shape of `old`, also as a graph's output."""
    import onnx_ir as ir

    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name, old.name = old.name, None


def only_reader(node: ir.Node) -> ir.Node | None:
    """Who reads what a node makes, where that is one node of the same graph and nobody else."""
    output = node.outputs[0]
    readers = {use.node for use in output.uses()}
    alone = len(readers) == 1 and not output.is_graph_output()
    reader = next(iter(readers)) if alone else None
    return reader if reader is not None and reader.graph is node.graph else None


def drop_identities(model: ir.Model) -> None:
    """Drops Identity wherever what it copies can take its place and its name.

    onnx-ir's pass for it renames values of outer graphs and makes branches return them, which onnxruntime refuses.
    """
    import onnx_ir as ir

    for graph in model.graphs():
        for node in list(graph):
            if not is_onnx(node, "Identity") or (source := node.inputs[0]) is None:
                continue
            copy = node.outputs[0]
            if copy.is_graph_output():
                producer = source.producer()
                if producer is None or producer.graph is not graph or source.is_graph_output():
                    continue
                name = copy.name
                ir.convenience.replace_all_uses_with(copy, source, replace_graph_outputs=True)
                copy.name, source.name = None, name
            else:
                copy.replace_all_uses_with(source)
            graph.remove(node, safe=True)


def is_onnx(node: ir.Node | None, operator: str) -> bool:
    """Whether it is this operator of ONNX's own."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type == operator


def scalar_of(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds; None where it is none, or can be set by who runs the model."""
    from onnx_ir.convenience import get_const_tensor

    if value is None or value.is_graph_input():
        return None
    tensor = get_const_tensor(value)
    if tensor is None or tensor.size != 1 or tensor.dtype.is_string():
        return None
    return float(tensor.numpy().reshape(-1)[0])
