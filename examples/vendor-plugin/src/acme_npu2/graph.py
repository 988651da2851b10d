"""Splits an ONNX graph: what the device runs, and what is left for a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from sdkpack.errors import ModelError

_ATTRIBUTES = {
    "Conv": {"strides", "pads", "dilations", "group", "kernel_shape"},
    "MaxPool": {"strides", "pads", "kernel_shape"},
    "Gemm": {"transB"},
    "Flatten": {"axis"},
    "Relu": set(),
    "Add": set(),
    "GlobalAveragePool": set(),
}


@dataclass
class Split:
    """One model in two halves; `rest` is None where the device runs all of it."""

    ops: list[dict[str, Any]]
    weights: dict[str, Any]
    boundary: dict[str, list[int]]
    """What the device gives: name and shape."""
    rest: onnx.ModelProto | None
    nodes: int
    unsupported: list[str]


def split(path: Path, fixed: dict[str, int]) -> Split:
    """Gives the device the longest run of nodes from the input on that it knows.

    Raises:
        ModelError: the device could not even begin, or nobody has an operator.
    """
    model = onnx.load(path)
    foreign = sorted(
        {f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx", "ai.onnx.ml")}
    )
    if foreign:
        raise ModelError(f"nothing here runs the operators {', '.join(foreign)}", hint="replace them in the model")
    _fix(model, fixed)
    model = shape_inference.infer_shapes(model)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    floats = [value for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    known = {value.name for value in floats if value.name not in constants}
    device: list[Any] = []
    for node in graph.node:
        if _runs(node, known, constants, shapes):
            device.append(node)
            known |= set(node.output)
    if not device:
        lacks = ", ".join(sorted({node.op_type for node in graph.node}))
        raise ModelError(f"the device runs none of the model's first nodes: {lacks}", hint="compile it for a CPU")
    rest = [node for node in graph.node if all(node is not mine for mine in device)]
    made = {name for node in device for name in node.output}
    needed = {name for node in rest for name in node.input} | {value.name for value in graph.output}
    boundary = {name: shapes[name] for name in sorted(made & needed)}
    ops = [_op(node, constants) for node in device]
    weights = {name: constants[name] for node in device for name in node.input if name in constants}
    return Split(
        ops=ops, weights=weights, boundary=boundary, nodes=len(graph.node), rest=_rest(model, rest, boundary),
        unsupported=sorted({node.op_type for node in rest}),
    )  # fmt: skip


def _runs(node: Any, known: set[str], constants: dict[str, Any], shapes: dict[str, list[int]]) -> bool:
    if node.op_type not in _ATTRIBUTES or node.domain not in ("", "ai.onnx"):
        return False
    names = {attribute.name for attribute in node.attribute}
    values = [name for name in node.input if name and name not in constants]
    fits = names <= _ATTRIBUTES[node.op_type] and bool(values) and set(values) <= known and len(node.output) == 1
    weights = all(name in constants for name in node.input[1:]) if node.op_type in ("Conv", "Gemm") else True
    floats = all(constants[name].dtype == np.float32 for name in node.input if name in constants)
    pairs = node.op_type != "Add" or (len(values) == 2 and shapes.get(values[0]) == shapes.get(values[1]))
    whole = all(isinstance(size, int) for size in shapes.get(node.output[0], ["?"]))
    return fits and weights and floats and pairs and whole and len(shapes[values[0]]) in (2, 4)


def _op(node: Any, constants: dict[str, Any]) -> dict[str, Any]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attributes = {name: list(value) if not isinstance(value, int) else value for name, value in attributes.items()}
    values = [name for name in node.input if name and name not in constants]
    weights = [name for name in node.input if name in constants]
    return {
        "op": node.op_type,
        "inputs": values,
        "weights": weights,
        "output": node.output[0],
        "attributes": attributes,
    }


def _rest(model: onnx.ModelProto, nodes: list[Any], boundary: dict[str, list[int]]) -> onnx.ModelProto | None:
    if not nodes:
        return None
    used = {name for node in nodes for name in node.input}
    made = {name for node in nodes for name in node.output}
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in boundary.items() if n in used]
    inputs += [value for value in model.graph.input if value.name in used and value.name not in boundary]
    outputs = [value for value in model.graph.output if value.name in made]
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "rest", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _fix(model: onnx.ModelProto, sizes: dict[str, int]) -> None:
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _shape(value: Any) -> list[Any]:
    return [dim.dim_value if dim.HasField("dim_value") else "?" for dim in value.type.tensor_type.shape.dim]
