"""All passes on graphs that nobody would draw: random operators on random values, shared and unused alike."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from plugins.optimize.tests.chain import differences, evaluate, interface, run_all

_WIDTH = 4
_UNARY = ("Relu", "Sigmoid", "Identity", "Neg", "Abs", "Tanh")
_BINARY = ("Add", "Mul", "Sub", "Max")
_STRAIGHT = ("unary", "binary", "constant", "matmul", "cast")
_SHAPES = ("squeeze", "transpose", "reshape", "slice", "concat", "shape")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Every value is float32[N, 4], so that any of them goes anywhere."""
    maker = _Maker(np.random.default_rng(draw(st.integers(0, 2**16))))
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from((*_STRAIGHT, *_SHAPES)))
        picks = [draw(st.sampled_from(maker.values)) for _ in range(2)]
        word = draw(st.sampled_from(_UNARY if kind == "unary" else _BINARY))
        getattr(maker, kind)(word, *picks)
    inner = maker.values[1:]
    outputs = draw(st.lists(st.sampled_from(inner), min_size=1, max_size=3, unique=True))
    return maker.model(outputs, opset=draw(st.sampled_from([13, 17, 20, 21])))


class _Maker:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.values = ["x"]
        self.constants: list[onnx.TensorProto] = []

    def _node(self, operator: str, inputs: list[str], *, last: bool = True, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        if last:
            self.values.append(name)
        return name

    def _constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def unary(self, word: str, one: str, _: str) -> None:
        self._node(word, [one])

    def binary(self, word: str, one: str, other: str) -> None:
        self._node(word, [one, other])

    def constant(self, word: str, one: str, _: str) -> None:
        """Zeros and ones on purpose: what identities are made of."""
        kind = self.rng.integers(3)
        array = self.rng.standard_normal(_WIDTH) if kind == 2 else np.full(_WIDTH, kind)
        self._node(word, [one, self._constant(array.astype(np.float32))])

    def matmul(self, _: str, one: str, __: str) -> None:
        weight = self._constant((self.rng.standard_normal((_WIDTH, _WIDTH)) / 2).astype(np.float32))
        bias = self._constant(self.rng.standard_normal(_WIDTH).astype(np.float32))
        self._node("Add", [self._node("MatMul", [one, weight], last=False), bias])

    def squeeze(self, _: str, one: str, __: str) -> None:
        axes = self._constant(np.array([1]))
        self._node("Squeeze", [self._node("Unsqueeze", [one, axes], last=False), axes])

    def transpose(self, word: str, one: str, other: str) -> None:
        turned = self._node("Transpose", [one], last=False, perm=[1, 0])
        again = self._node("Transpose", [other], last=False, perm=[1, 0])
        self._node("Transpose", [self._node(word, [turned, again], last=False)], perm=[1, 0])

    def reshape(self, _: str, one: str, __: str) -> None:
        shapes = [self._constant(np.array(shape)) for shape in ([-1, 2, 2], [0, 4, 1], [-1, 4])]
        for place, shape in enumerate(shapes):
            one = self._node("Reshape", [one, shape], last=place == 2)

    def slice(self, _: str, one: str, __: str) -> None:
        ends = [2**31 - 1, 2**63 - 1]
        self._node("Slice", [one, *(self._constant(np.array(row)) for row in ([0, 0], ends, [0, 1]))])

    def concat(self, _: str, one: str, other: str) -> None:
        both = self._node("Concat", [one, other], last=False, axis=1)
        more = self._node("Concat", [both, one], last=False, axis=1)
        self._node("Slice", [more, *(self._constant(np.array([row])) for row in (2, 6, 1))])

    def cast(self, _: str, one: str, __: str) -> None:
        wide = self._node("Cast", [one], last=False, to=TensorProto.DOUBLE)
        self._node("Cast", [wide], to=TensorProto.FLOAT)

    def shape(self, _: str, one: str, other: str) -> None:
        self._node("Reshape", [one, self._node("Shape", [other], last=False)])

    def model(self, outputs: list[str], *, opset: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", _WIDTH])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", _WIDTH]) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_graphs_compute_the_same(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        chain = run_all(model, Path(folder))
        made = chain.model
    assert not chain.failed
    onnx.checker.check_model(made, full_check=True)
    assert interface(made) == interface(model)
    assert len(made.graph.node) <= len(model.graph.node)
    for rows in (1, 2, 5):
        inputs = {"x": np.random.default_rng(rows).standard_normal((rows, _WIDTH)).astype(np.float32)}
        assert not list(differences(evaluate(made, inputs), evaluate(model, inputs)))
