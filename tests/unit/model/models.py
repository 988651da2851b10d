"""Small ONNX models for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from sdkpack.model.elements import ELEMENTS
from sdkpack.model.load import LoadedModel, parse_model

if TYPE_CHECKING:
    from pathlib import Path


def matmul(*, rows: int = 64, cols: int = 64, seed: int = 0) -> onnx.ModelProto:
    """y = x @ w + b, with w and b as raw initializers."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, cols)).astype("float32")
    bias = rng.standard_normal(cols).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"], "add")],
        "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", cols])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    return model_of(graph)


def model_of(graph: onnx.GraphProto, *, opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def holder(tensors: list[onnx.TensorProto]) -> onnx.ModelProto:
    """A model whose only job is to hold initializers; each goes through an Identity to an output."""
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, list(t.dims)) for t in tensors]
    return model_of(helper.make_graph(nodes, "holder", [], outputs, tensors), opset=23, ir_version=11)


def raw_tensor(name: str, code: int, dims: tuple[int, ...], seed: int = 0) -> onnx.TensorProto:
    """A tensor of any element type with random raw bytes."""
    count = int(np.prod(dims))
    length = (count * ELEMENTS[code].bits + 7) // 8
    data = np.random.default_rng(seed).integers(0, 256, length, dtype=np.uint8).tobytes()
    return onnx.TensorProto(name=name, data_type=code, dims=dims, raw_data=data)


def external_tensor(name: str = "w", dims: tuple[int, ...] = (16, 16), **entries: object) -> onnx.TensorProto:
    """A float32 tensor with the given external data entries, in order."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def loaded(model: onnx.ModelProto, folder: Path | None = None) -> LoadedModel:
    return parse_model(model.SerializeToString(), folder=folder)
