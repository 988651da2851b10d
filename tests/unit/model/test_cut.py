"""Parts of graphs: what is kept, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sdkpack.errors import ModelError
from sdkpack.model.cut import cut_model


def _model() -> ModelProto:
    """x, z -> a = x * w -> b = relu(a) -> (y = b + z, u = -b); an If that captures `b` makes v."""

    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["b"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", 1, ["N", 2])])

    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "z"], ["y"]),
        helper.make_node("Neg", ["b"], ["u"]),
        helper.make_node("If", ["flag"], ["v"], then_branch=branch("yes", "Neg"), else_branch=branch("no", "Abs")),
    ]
    floats = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xzyuv"}
    graph = helper.make_graph(
        nodes, "g", [floats["x"], floats["z"]], [floats["y"], floats["u"], floats["v"]],
        [numpy_helper.from_array(np.array([[2.0, -3.0]], np.float32), "w"),
         numpy_helper.from_array(np.array(True), "flag")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _names(model: ModelProto) -> tuple[list[str], list[str], list[str]]:
    graph = model.graph
    return [v.name for v in graph.input], [v.name for v in graph.output], [t.name for t in graph.initializer]


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ((), ("u",), (["x"], ["u"], ["w"])),
        (("b",), ("u",), (["b"], ["u"], [])),
        (("a", "z"), ("y", "b"), (["a", "z"], ["y", "b"], [])),
        (("a",), ("v",), (["a"], ["v"], ["flag"])),
        (("b",), ("v",), (["b"], ["v"], ["flag"])),
        ((), (), (["x", "z"], ["y", "u", "v"], ["w", "flag"])),
    ],
)
def test_a_part_computes_what_the_whole_does(
    inputs: tuple[str, ...], outputs: tuple[str, ...], expected: tuple[list[str], list[str], list[str]]
) -> None:
    model = _model()
    whole = ReferenceEvaluator(model)
    feeds = {"x": np.array([[1, 2], [-3, 4]], np.float32), "z": np.array([[5, 6], [7, 8]], np.float32)}
    values = whole.run(None, feeds, intermediate=True)
    part = cut_model(model, inputs=inputs, outputs=outputs)
    onnx.checker.check_model(part, full_check=True)
    assert _names(part) == expected
    found = ReferenceEvaluator(part).run(None, {name: values[name] for name in expected[0]})
    for name, array in zip(expected[1], found, strict=True):
        assert np.array_equal(array, values[name])
    assert model == _model(), "the model itself stays as it was"


def test_open_dimensions_stay_open() -> None:
    part = cut_model(_model(), inputs=("b",), outputs=("u",))
    [value] = part.graph.input
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == ["N", 2]


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((), ("nothing",), "the graph has no tensor 'nothing' to be an output"),
        (("nothing",), ("y",), "the graph has no tensor 'nothing' to be an input"),
        (("w",), ("y",), "the graph has no tensor 'w' to be an input"),
        (("z",), ("u",), "no output needs the input 'z'"),
        (("b",), ("y",), "the outputs also need the model's input 'z'"),
    ],
)
def test_what_makes_no_part_is_refused(inputs: tuple[str, ...], outputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        cut_model(_model(), inputs=inputs, outputs=outputs)
    assert error.value.hint


def test_a_tensor_of_no_known_type_is_refused() -> None:
    model = _model()
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node.insert(1, helper.make_node("Odd", ["a"], ["odd"], domain="acme"))
    with pytest.raises(ModelError, match="the type of tensor 'odd' cannot be told"):
        cut_model(model, outputs=("odd",))
