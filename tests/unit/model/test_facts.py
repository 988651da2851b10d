"""What is said of a model."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sdkpack.errors import ModelError
from sdkpack.model.check import check_model, check_split
from sdkpack.model.elements import ELEMENTS
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import OperatorUse, describe
from sdkpack.model.join import join_inline
from sdkpack.model.load import load_model
from sdkpack.model.split import split_model
from sdkpack.types import DTYPES
from tests.unit.model.models import external_tensor, holder, loaded, matmul, model_of

MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", Path(__file__).parents[3].parent / "shared" / "models"))


def test_describes_a_small_model() -> None:
    model = matmul()
    model.producer_name, model.producer_version = "me", "1.2"
    model.metadata_props.add(key="labels", value="a b")
    facts = describe(loaded(model))

    assert [str(spec) for spec in facts.inputs] == ["x: tensor(float32, [N, 64])"]
    assert [str(spec) for spec in facts.outputs] == ["y: tensor(float32, [N, 64])"]
    assert (facts.ir_version, facts.opset, facts.opsets) == (8, 17, (("", 17),))
    assert facts.producer == "me 1.2"
    assert facts.metadata == (("labels", "a b"),)
    assert facts.operators == (
        OperatorUse(domain="", name="Add", count=1),
        OperatorUse(domain="", name="MatMul", count=1),
    )
    assert (facts.parameter_count, facts.parameter_bytes) == (64 * 64 + 64, 4 * (64 * 64 + 64))
    assert facts.custom_domains == facts.external_files == ()


def test_an_output_without_a_shape_gets_the_one_that_follows() -> None:
    model = matmul()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert [str(spec) for spec in describe(loaded(model)).outputs] == ["y: tensor(float32, [N, 64])"]
    model.graph.node[1].op_type, model.graph.node[1].domain = "Mystery", "acme"
    model.opset_import.add(domain="acme", version=1)
    with pytest.raises(ModelError, match="output 'y' has no declared rank"):
        describe(loaded(model))


def test_initializers_that_are_listed_as_inputs_are_not_asked_for() -> None:
    model = matmul()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert [spec.name for spec in describe(loaded(model)).inputs] == ["x"]


def test_dimensions_without_a_usable_name_are_question_marks() -> None:
    model = matmul()
    shape = model.graph.input[0].type.tensor_type.shape
    del shape.dim[:]
    for dim in ("batch", "batch size", "2*N", "a.b_0", ""):
        shape.dim.add(dim_param=dim)
    shape.dim.add(dim_value=-1)
    shape.dim.add(dim_value=0)
    shape.dim.add()
    assert describe(loaded(model)).inputs[0].shape == ("batch", "?", "?", "a.b_0", "?", "?", 0, "?")


def test_custom_domains_are_those_that_no_function_defines() -> None:
    model = matmul()
    model.graph.node[0].domain = "acme"
    model.graph.node[1].domain = "vendor"
    model.functions.append(helper.make_function("acme", "MatMul", ["a", "b"], ["c"], [], []))
    for domain in ("acme", "vendor"):
        model.opset_import.add(domain=domain, version=1)
    assert describe(loaded(model)).custom_domains == ("vendor",)


def test_operators_of_subgraphs_count() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, [1])]
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", 1, [1])],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    uses = {use.name: use.count for use in describe(loaded(model_of(graph))).operators}
    assert uses == {"If": 1, "Relu": 2}


def test_every_element_type_has_a_name_that_specs_know() -> None:
    assert {element.name for element in ELEMENTS.values()} == DTYPES


def test_external_files_are_listed_once() -> None:
    model = holder([external_tensor("a", location="w.bin"), external_tensor("b", location="w.bin", offset=64)])
    assert describe(loaded(model)).external_files == ("w.bin",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.type.sequence_type.elem_type.tensor_type.__setattr__("elem_type", 1),
            "is a sequence, expected a",
        ),
        (lambda v: v.type.Clear(), "is a value of no stated type"),
        (lambda v: v.type.tensor_type.__setattr__("elem_type", 77), "unknown element type, got number 77"),
        (lambda v: v.type.tensor_type.ClearField("shape"), "no declared rank"),
        (
            lambda v: v.type.tensor_type.shape.dim[0].__setattr__("dim_value", 1 << 50),
            "dimension of 1125899906842624",
        ),
    ],
)
def test_inputs_that_nobody_could_feed_are_refused(change: object, message: str) -> None:
    model = matmul()
    change(model.graph.input[0])  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        describe(loaded(model))


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"no folder {MODELS}; set SDKPACK_TEST_MODELS")
def test_real_models_split_and_join_without_loss() -> None:
    from sdkpack.model.elements import raw_bytes

    paths = sorted(MODELS.rglob("*.onnx"))
    assert paths
    for path in paths:
        model = load_model(path)
        assert describe(model).inputs
        with ExternalFolder(model.folder) as folder:
            check_model(model, folder)
            split = split_model(model, folder)
            weights = split.weights.read_all()
        check_split(split, name=str(path))
        back = onnx.ModelProto.FromString(b"".join(join_inline(split.graph, split.tensors, weights)))
        after = {t.name: raw_bytes(t, t.name) for t in back.graph.initializer}
        before = {t.name: raw_bytes(t, t.name) for t in model.proto.graph.initializer}
        assert {name: after[name] for name in before} == before
        assert sum(map(len, after.values())) >= 0.9 * describe(model).parameter_bytes or not after
