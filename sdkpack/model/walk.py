"""Every place of an ONNX model where a graph, node or tensor can stand, without recursion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["PlacedTensor", "iter_graphs", "iter_graphs_below", "iter_node_lists", "iter_tensors"]


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """A tensor and where it stands, in words for an error message."""

    where: str
    tensor: TensorProto
    kind: str
    """`initializer` (main graph), or `nested`: subgraphs, attributes, functions, sparse values, training info."""


def iter_node_lists(model: ModelProto) -> Iterator[tuple[str, Any]]:
    """(where, repeated NodeProto) of the main graph, every subgraph, training graph and function."""
    for where, graph in iter_graphs(model):
        yield where, graph.node
    for function in model.functions:
        name = f"function {_short(function.name)!r}"
        yield name, function.node
        for where, graph in _below(_graphs_of_nodes(name, function.node)):
            yield where, graph.node


def iter_graphs(model: ModelProto) -> Iterator[tuple[str, GraphProto]]:
    """The main graph and what is nested in it, then the training graphs; functions are not graphs."""
    roots = [("graph", model.graph)]
    for number, info in enumerate(model.training_info):
        roots += [(f"training_info[{number}].initialization", info.initialization)]
        roots += [(f"training_info[{number}].algorithm", info.algorithm)]
    yield from _below(roots)


def iter_graphs_below(graph: GraphProto) -> Iterator[tuple[str, GraphProto]]:
    """`graph` itself, then everything nested in it."""
    yield from _below([("graph", graph)])


def iter_tensors(model: ModelProto) -> Iterator[PlacedTensor]:
    """Every tensor of the model that may carry data, wherever ONNX allows one."""
    for where, graph in iter_graphs(model):
        yield from _graph_tensors(where, graph)
    for function in model.functions:
        name = f"function {_short(function.name)!r}"
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(f"{name}, default of attribute {_short(attribute.name)!r}", attribute)
        yield from _node_tensors(name, function.node)
        roots = _graphs_of_nodes(name, function.node)
        roots += [
            graph for item in function.attribute_proto for graph in _graphs_of(f"{name}.{_short(item.name)}", item)
        ]
        for where, graph in _below(roots):
            yield from _graph_tensors(where, graph)


def _below(roots: list[tuple[str, GraphProto]]) -> Iterator[tuple[str, GraphProto]]:
    """Depth first with a stack of our own: nesting is the input's to choose, Python's stack is not."""
    stack = list(reversed(roots))
    while stack:
        where, graph = stack.pop()
        yield where, graph
        stack.extend(reversed(_graphs_of_nodes(where, graph.node)))


def _graphs_of_nodes(where: str, nodes: Any) -> list[tuple[str, GraphProto]]:
    found: list[tuple[str, GraphProto]] = []
    for number, node in enumerate(nodes):
        for attribute in node.attribute:
            found += _graphs_of(f"{where}.{_label(node, number)}.{_short(attribute.name)}", attribute)
    return found


def _graphs_of(where: str, attribute: AttributeProto) -> list[tuple[str, GraphProto]]:
    found = [(where, attribute.g)] if attribute.HasField("g") else []
    return found + [(f"{where}[{number}]", graph) for number, graph in enumerate(attribute.graphs)]


def _label(node: NodeProto, number: int) -> str:
    return _short(node.name) or f"{_short(node.op_type)}[{number}]"


def _short(name: str) -> str:
    """A name for a message: the input chooses its length, the user reads it."""
    return name if len(name) <= 80 else f"{name[:60]}...({len(name)} characters)"


def _graph_tensors(where: str, graph: GraphProto) -> Iterator[PlacedTensor]:
    kind = "initializer" if where == "graph" else "nested"
    for tensor in graph.initializer:
        yield PlacedTensor(f"{where}: initializer {_short(tensor.name)!r}", tensor, kind)
    for sparse in graph.sparse_initializer:
        name = f"{where}: sparse initializer {_short(sparse.values.name)!r}"
        yield PlacedTensor(f"{name}, values", sparse.values, "nested")
        yield PlacedTensor(f"{name}, indices", sparse.indices, "nested")
    yield from _node_tensors(where, graph.node)


def _node_tensors(where: str, nodes: Any) -> Iterator[PlacedTensor]:
    for number, node in enumerate(nodes):
        for attribute in node.attribute:
            place = f"{where}: node {_label(node, number)!r}, attribute {_short(attribute.name)!r}"
            yield from _attribute_tensors(place, attribute)


def _attribute_tensors(where: str, attribute: AttributeProto) -> Iterator[PlacedTensor]:
    if attribute.HasField("t"):
        yield PlacedTensor(where, attribute.t, "nested")
    for number, tensor in enumerate(attribute.tensors):
        yield PlacedTensor(f"{where}[{number}]", tensor, "nested")
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for item in [*sparse, *attribute.sparse_tensors]:
        yield PlacedTensor(f"{where}, sparse values", item.values, "nested")
        yield PlacedTensor(f"{where}, sparse indices", item.indices, "nested")
