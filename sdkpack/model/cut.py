"""Cuts a graph at named tensors: what stands between them, as a model of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sdkpack.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

__all__ = ["cut_model"]

_NEAR: Final = 3


def cut_model(model: ModelProto, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> ModelProto:
    """The part of `model` that computes `outputs` from `inputs`.

    Initializers of the part stay as they are, external ones too. Types and shapes of tensors that become inputs or
    outputs are inferred where the model does not state them.

    Args:
        model: any valid model; left as it is.
        inputs: tensors where the part begins; none: the model's own inputs, as far as they are needed.
        outputs: tensors where it ends; none: the model's own.

    Raises:
        ModelError: a name is none of the graph's, an input is not needed or one is missing, or the type of a tensor
            cannot be told.
    """
    graph = model.graph
    part = _Part.of(graph)
    wanted = tuple(outputs) or tuple(value.name for value in graph.output)
    _check_names(wanted, part.made, "output")
    _check_names(inputs, {**part.made, **dict.fromkeys(part.inputs, -1)}, "input")
    nodes, reached = part.needed(wanted, frozenset(inputs))
    own = tuple(name for name in part.inputs if name in reached and name not in inputs)
    if inputs:
        _check_inputs(inputs, reached, own)
    return _assembled(model, nodes, (*inputs, *own), wanted, reached)


@dataclass(frozen=True, slots=True)
class _Part:
    """A graph by its tensors."""

    graph: GraphProto
    made: Mapping[str, int]
    """Tensor -> index of the node that makes it."""
    values: frozenset[str]
    """Initializers."""
    inputs: tuple[str, ...]
    """What a caller gives."""

    @classmethod
    def of(cls, graph: GraphProto) -> _Part:
        values = {tensor.name for tensor in graph.initializer}
        values |= {sparse.values.name for sparse in graph.sparse_initializer}
        return cls(
            graph=graph,
            made={name: number for number, node in enumerate(graph.node) for name in node.output if name},
            values=frozenset(values),
            inputs=tuple(value.name for value in graph.input if value.name not in values),
        )

    def needed(self, outputs: Sequence[str], stops: frozenset[str]) -> tuple[list[int], set[str]]:
        """Indices of the nodes that `outputs` need, in the graph's order; and every tensor that was come by."""
        nodes: set[int] = set()
        reached: set[str] = set()
        stack = list(outputs)
        while stack:
            name = stack.pop()
            if name in reached:
                continue
            reached.add(name)
            number = self.made.get(name)
            if name in stops or number is None or number in nodes:
                continue
            nodes.add(number)
            stack += _taken(self.graph.node[number])
        return sorted(nodes), reached


def _taken(node: NodeProto) -> Iterator[str]:
    """The tensors that a node takes, with those that its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            outer = [name for inner in graph.node for name in _taken(inner)]
            outer += [value.name for value in graph.output]
            yield from (name for name in outer if name not in own)


def _check_names(names: Sequence[str], known: Mapping[str, int], role: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], list(known), n=_NEAR, cutoff=0.4)
        raise ModelError(
            f"cut: the graph has no tensor {' and no '.join(map(repr, unknown))} to be an {role}",
            hint=f"did you mean {' or '.join(map(repr, near))}?" if near else "graph viewers show the names of tensors",
        )


def _check_inputs(inputs: Sequence[str], reached: set[str], own: Sequence[str]) -> None:
    unused = [name for name in inputs if name not in reached]
    if unused:
        raise ModelError(
            f"cut: no output needs the input {', '.join(map(repr, unused))}",
            hint="leave it out, or name tensors on the way from it to the outputs",
        )
    if own:
        raise ModelError(
            f"cut: the outputs also need the model's input {', '.join(map(repr, own))}",
            hint="name it among the cut's inputs, or a tensor on its way to the outputs",
        )


def _assembled(
    model: ModelProto, nodes: Sequence[int], inputs: Sequence[str], outputs: Sequence[str], reached: set[str]
) -> ModelProto:
    from onnx import ModelProto

    graph = model.graph
    types = _types(model, (*inputs, *outputs))
    made = ModelProto()
    made.CopyFrom(_without_graph(model))
    part = made.graph
    part.name, part.doc_string = graph.name, graph.doc_string
    part.node.extend(graph.node[number] for number in nodes)
    inner = {name for node in part.node for name in node.output} | reached
    cut = set(inputs)
    part.initializer.extend(tensor for tensor in graph.initializer if tensor.name in reached - cut)
    part.sparse_initializer.extend(s for s in graph.sparse_initializer if s.values.name in reached - cut)
    part.input.extend(types[name] for name in inputs)
    part.output.extend(types[name] for name in outputs)
    ends = {*inputs, *outputs}
    part.value_info.extend(value for value in graph.value_info if value.name in inner - ends)
    part.quantization_annotation.extend(one for one in graph.quantization_annotation if one.tensor_name in inner)
    return made


def _without_graph(model: ModelProto) -> ModelProto:
    from onnx import ModelProto

    return ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, producer_name=model.producer_name,
        producer_version=model.producer_version, domain=model.domain, model_version=model.model_version,
        doc_string=model.doc_string, metadata_props=model.metadata_props, functions=model.functions,
    )  # fmt: skip


def _types(model: ModelProto, names: Sequence[str]) -> dict[str, ValueInfoProto]:
    found = _stated(model.graph)
    if any(name not in found for name in names):
        from onnx import shape_inference

        try:
            found |= {name: value for name, value in _stated(shape_inference.infer_shapes(model).graph).items()
                      if name not in found}  # fmt: skip
        except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
            raise ModelError(f"cut: the types of its tensors cannot be inferred: {error}") from error
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ModelError(
            f"cut: the type of tensor {lacking[0]!r} cannot be told",
            hint="cut at a tensor nearby, or run shape inference on the model first",
        )
    return found


def _stated(graph: GraphProto) -> dict[str, ValueInfoProto]:
    """Tensors whose element type and rank the graph states."""
    return {
        value.name: value
        for value in (*graph.value_info, *graph.output, *graph.input)
        if value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
    }
