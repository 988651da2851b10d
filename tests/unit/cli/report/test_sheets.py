"""What a picture shows of a model, and which graph became which."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sdkpack.cli.report.pairs import pair_up
from sdkpack.cli.report.sheets import Sheet, sheets
from tests.unit.cli.report.pages import model

VALUE = helper.make_tensor_value_info


def _sheets(proto: onnx.ModelProto) -> tuple[Sheet, ...]:
    return sheets(proto.SerializeToString())


def _labels(sheet: Sheet) -> list[str]:
    return [box.label for box in sheet.boxes]


def test_nodes_inputs_and_outputs_of_the_main_graph() -> None:
    main = _sheets(model())[0]
    assert _labels(main) == [
        "x", "mode", "Conv", "BatchNormalization", "Identity", "Identity", "Relu", "Greater", "If", "y",
    ]  # fmt: skip
    assert (main.node_count, main.constant_count) == (8, 1)
    assert set(main.edges) == {
        (0, 2), (2, 3), (3, 4), (4, 5), (5, 6), (1, 7), (7, 8), (8, 9), (6, 8),
    }, "the If reads what its branches read"  # fmt: skip


def test_a_node_says_its_attributes_values_and_shapes() -> None:
    main = _sheets(model())[0]
    conv = main.boxes[2].says.split("\n")
    assert conv[1:3] == ["kernel_shape = 3, 3", "pads = 1, 1, 1, 1"]
    assert conv[3:] == ["in   x  float32 [N, 3, 4, 4]", "in   w  float32 [8, 3, 3, 3] constant",
                        "out  c  float32 [N, 8, 4, 4]"]  # fmt: skip
    assert "in   limit  int64 [] constant" in main.boxes[7].says
    choice = main.boxes[8]
    assert (choice.kind.name, choice.detail) == ("flow", "then 1, else 2")
    assert "else_branch: 2 nodes: Neg 1, Relu 1" in choice.says


def test_branches_are_sheets_with_what_they_read_from_outside() -> None:
    main, yes, no = _sheets(model())
    assert main.boxes[8].opens == (yes.key, no.key)
    assert _labels(no) == ["r", "Neg", "Relu", "no1"]
    assert no.title == "main graph / If choice / else_branch"
    assert "in   r  float32 [N, 8, 4, 4]" in no.boxes[1].says
    assert set(no.edges) == {(0, 1), (1, 2), (2, 3)}


def test_functions_are_sheets() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("com.acme", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="com.acme")], "g", [VALUE("x", 1, [2])], [VALUE("y", 1, [2])]
    )
    proto = helper.make_model(graph, functions=[function],
                              opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)])  # fmt: skip
    main, inside = _sheets(proto)
    assert main.boxes[1].label == "com.acme.Twice"
    assert main.boxes[1].opens == (inside.key,)
    assert _labels(inside) == ["a", "Relu", "Neg", "c"]


def test_bodies_in_bodies() -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["deep"])], "inner", [], [VALUE("deep", 1, None)])
    outer = helper.make_graph(
        [helper.make_node("If", ["b"], ["mid"], then_branch=inner, else_branch=inner)],
        "outer",
        [],
        [VALUE("mid", 1, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["b"], ["y"], then_branch=outer, else_branch=outer)], "g",
        [VALUE("x", 1, [2]), VALUE("b", TensorProto.BOOL, [])], [VALUE("y", 1, None)],
    )  # fmt: skip
    found = _sheets(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert len(found) == 7
    assert len({one.key for one in found}) == 7
    assert set(found[0].edges) == {(0, 2), (1, 2), (2, 3)}, "what the innermost graph reads comes from outside"


def test_weights_that_are_declared_only_have_shapes() -> None:
    proto = model()
    tensor = next(one for one in proto.graph.initializer if one.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    assert "w  float32 [8, 3, 3, 3] constant" in _sheets(proto)[0].boxes[2].says


def test_initializers_that_are_inputs_too_are_no_inputs() -> None:
    proto = model()
    proto.graph.input.append(VALUE("w", 1, [8, 3, 3, 3]))
    assert _labels(_sheets(proto)[0])[:3] == ["x", "mode", "Conv"]


def test_nodes_are_known_again_by_what_they_make_and_by_name() -> None:
    before = model()
    after = onnx.ModelProto.FromString(before.SerializeToString())
    # What fusing a normalisation into a convolution does: its node goes, its output's name stays.
    after.graph.node[1].output[0] = "n"
    del after.graph.node[2]
    main = pair_up(_sheets(before), _sheets(after))[0]
    assert main.before is not None
    assert main.after is not None
    here = {box.label: place for place, box in enumerate(main.before.boxes)}
    there = {box.label: place for place, box in enumerate(main.after.boxes)}
    assert main.twins[here["Conv"]] == there["Conv"]
    assert main.before.boxes[here["Conv"]].form != main.after.boxes[there["Conv"]].form, "it makes another value"
    assert main.before.boxes[here["Relu"]].form == main.after.boxes[there["Relu"]].form
    assert here["BatchNormalization"] not in main.twins


def test_branches_are_paired_even_where_their_node_lost_its_name() -> None:
    before = model()
    after = onnx.ModelProto.FromString(before.SerializeToString())
    choice = after.graph.node[-1]
    choice.name, choice.output[0] = "other", "z"
    after.graph.output[0].name = "z"
    pairs = pair_up(_sheets(before), _sheets(after))
    assert [(bool(one.before), bool(one.after)) for one in pairs] == [(True, True)] * 3


def test_a_graph_that_only_one_model_has() -> None:
    after = model()
    value = numpy_helper.from_array(np.zeros((1, 8, 4, 4), np.float32))
    after.graph.node[-1].CopyFrom(helper.make_node("Constant", [], ["y"], value=value))
    pairs = pair_up(_sheets(model()), _sheets(after))
    assert [(bool(one.before), bool(one.after)) for one in pairs] == [(True, True), (True, False), (True, False)]
