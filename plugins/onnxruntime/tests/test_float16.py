from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sdkpack_onnxruntime.float16 import Float16Compressor, Float16Params
from sdkpack_onnxruntime.plugin import sdkpack_compressors

from sdkpack.errors import ModelError
from sdkpack.plugin import CompressRequest, CompressResult, ModelInput


class Context:
    def __init__(self, work: Path) -> None:
        self.work = work
        self.log = logging.getLogger("test")
        self.seed = 0

    def progress(self, fraction: float | None, text: str = "") -> None: ...

    def run(self, *_: object, **__: object) -> Any:
        raise AssertionError("no tool is needed")


Compress = Callable[..., tuple[CompressResult, onnx.ModelProto]]


@pytest.fixture
def compress(tmp_path: Path) -> Compress:
    def run(model: onnx.ModelProto, **params: Any) -> tuple[CompressResult, onnx.ModelProto]:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        source = ModelInput(name="net", path=path, graph=path, weights=path, tensors=path, inputs=(), outputs=())
        request = CompressRequest(model=source, precision="float16", params=Float16Params(**params))
        result = Float16Compressor().compress(request, Context(work))
        return result, onnx.load(result.model)

    return run


def network(*, overridable: bool = False, subgraph: bool = False, scale: float = 1.0) -> onnx.ModelProto:
    """x -> Gemm -> Relu -> Gemm -> Softmax, with names that sort otherwise than they run."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((rng.standard_normal((16, 16)) * scale).astype("float32"), f"w{i}") for i in (0, 1)
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["a"], "z"),
        helper.make_node("Relu", ["a"], ["b"], "y"),
        helper.make_node("Gemm", ["b", "w1"], ["c"], "a"),
        helper.make_node("Softmax", ["c"], ["out"], "soft", axis=-1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])]
    if subgraph:
        inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
        branches = {
            name: helper.make_graph(
                [helper.make_node(kind, ["out"], [name])], name, [],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16])],
            )
            for name, kind in (("then_branch", "Neg"), ("else_branch", "Abs"))
        }  # fmt: skip
        nodes.append(helper.make_node("If", ["flag"], ["last"], "if", **branches))
    name = "last" if subgraph else "out"
    if overridable:
        inputs += [helper.make_tensor_value_info(w.name, TensorProto.FLOAT, [16, 16]) for w in weights]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, **inputs: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


X = np.random.default_rng(1).standard_normal((3, 16)).astype("float32")


@pytest.mark.parametrize("overridable", [False, True])
def test_weights_are_halved_and_answers_stay_close(compress: Compress, overridable: bool) -> None:
    model = network(overridable=overridable)
    result, made = compress(model)
    assert result.precision == "float16"
    assert {tensor.data_type for tensor in made.graph.initializer} == {TensorProto.FLOAT16}
    assert [value.name for value in made.graph.input] == ["x"]
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.checker.check_model(made, full_check=True)  # which also wants nodes in the order in which they run
    before, after = run(model, x=X), run(made, x=X)
    assert after.dtype == np.float32
    assert 0 < np.abs(before - after).max() < 1e-2


def test_a_subgraph_keeps_its_place(compress: Compress) -> None:
    model = network(subgraph=True)
    _, made = compress(model)
    onnx.checker.check_model(made, full_check=True)
    for flag in (True, False):
        before, after = (run(m, x=X, flag=np.array(flag)) for m in (model, made))
        assert np.abs(before - after).max() < 1e-2


def test_operators_and_nodes_can_be_kept(compress: Compress) -> None:
    _, made = compress(network(), keep=("Gemm",))
    assert {tensor.data_type for tensor in made.graph.initializer} == {TensorProto.FLOAT}
    _, made = compress(network(), keep_nodes=("z",))
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert sorted(kinds.values()) == sorted([TensorProto.FLOAT, TensorProto.FLOAT16])
    with pytest.raises(ModelError, match="names 'zz', and the model has no node of that name"):
        compress(network(), keep_nodes=("zz",))


def test_values_that_float16_cannot_hold_are_told(compress: Compress) -> None:
    result, _ = compress(network(scale=1e6))
    assert "outside of float16's range" in result.notes[0]


def test_a_model_without_float_weights_is_refused(compress: Compress) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelError, match="no float32 weights"):
        compress(model)


def test_the_same_model_gives_the_same_bytes(compress: Compress) -> None:
    contents = [compress(network())[1].SerializeToString(deterministic=True) for _ in range(2)]
    assert contents[0] == contents[1]


def test_its_row_says_what_it_makes() -> None:
    row = sdkpack_compressors()[0]
    assert (row.name, row.precisions, row.half.isolation) == ("float16", ("float16",), "in-process")
    assert Float16Compressor().probe().fingerprint.startswith("onnxruntime ")
