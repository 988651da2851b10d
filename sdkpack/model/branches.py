"""What decides control flow: the conditions of a graph, and the numbers that they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sdkpack.model.walk import iter_node_lists

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["compared_numbers", "conditions", "with_outputs"]

_COMPARISONS: Final = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_FLOW: Final = frozenset({"If", "Loop"})
_MOST_ELEMENTS: Final = 4


def conditions(model: ModelProto) -> tuple[str, ...]:
    """What the If nodes of the main graph ask, each tensor once; those of subgraphs cannot be seen from outside."""
    return tuple(dict.fromkeys(node.input[0] for node in model.graph.node if node.op_type == "If"))


def compared_numbers(model: ModelProto) -> tuple[float, ...]:
    """Numbers that comparisons anywhere in the model ask for; empty where it has no control flow.

    A sampling rate, say, that chooses between two branches: inputs of such values reach them.
    """
    lists = [list(nodes) for _, nodes in iter_node_lists(model)]
    if not any(node.op_type in _FLOW for nodes in lists for node in nodes):
        return ()
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for nodes in lists:
        for node in nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    values[node.output[0]] = attribute.t
                for graph in (attribute.g, *attribute.graphs):
                    values |= {tensor.name: tensor for tensor in graph.initializer}
    asked = (name for nodes in lists for node in nodes if node.op_type in _COMPARISONS for name in node.input)
    return tuple(sorted({number for name in asked if name in values for number in _numbers(values[name])}))


def _numbers(tensor: TensorProto) -> list[float]:
    from onnx import numpy_helper

    size = 1
    for dim in tensor.dims:
        size *= dim
    if size > _MOST_ELEMENTS or tensor.data_location or not tensor.data_type:
        return []
    try:
        array: Any = numpy_helper.to_array(tensor)
    except (TypeError, ValueError):
        return []
    return [float(value) for value in array.ravel()] if array.dtype.kind in "iufb" else []


def with_outputs(model: ModelProto, names: tuple[str, ...], element_type: int) -> ModelProto:
    """A copy of `model` that also gives the tensors `names`, all of one element type; of unknown rank as scalars."""
    from onnx import ModelProto, helper, shape_inference

    made = ModelProto()
    made.CopyFrom(model)
    try:
        stated = {value.name: value for value in shape_inference.infer_shapes(made).graph.value_info}
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        stated = {value.name: value for value in made.graph.value_info}
    have = {value.name for value in made.graph.output}
    for name in (name for name in names if name not in have):
        value = helper.make_tensor_value_info(name, element_type, [])
        if name in stated and stated[name].type.tensor_type.HasField("shape"):
            value.CopyFrom(stated[name])
        made.graph.output.append(value)
    return made
