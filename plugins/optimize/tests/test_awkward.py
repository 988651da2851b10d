"""Models that libraries stumble over: each is optimised or passed through, and computes what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from plugins.optimize.tests.chain import differences, evaluate, interface, operators, rows, run_all, run_pass
from sdkpack.errors import ModelError, StepError

pytestmark = pytest.mark.filterwarnings("ignore")
HEAD = '<ir_version: 9, opset_import: ["" : 20]>'
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def text(body: str, head: str = HEAD) -> onnx.ModelProto:
    return parser.parse_model(head + body)


def sequences() -> onnx.ModelProto:
    return text(
        "g (float[N,4] x) => (seq(float[N,4]) y) { a = Identity(x) s = SequenceConstruct(a, x) b = Relu(x)"
        " c = Relu(x) t = SequenceInsert(s, b) y = SequenceInsert(t, c) }"
    )


def optionals() -> onnx.ModelProto:
    return text("g (float[N,4] x) => (bool y) { a = Identity(x) o = Optional(a) y = OptionalHasElement(o) }")


def strings() -> onnx.ModelProto:
    model = text("g (float[N,4] x) => (string[2] y, float[N,4] z) { y = Identity(words) z = Identity(x) }")
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"one", b"\xc3\xa4"]))
    model.graph.initializer.append(helper.make_tensor("again", TensorProto.STRING, [2], [b"one", b"\xc3\xa4"]))
    return model


def captured() -> onnx.ModelProto:
    """Branches read values of two graphs around them, and share names with each other."""
    return text(
        "g (float[N,4] x) => (float[N,4] y) <float[1] limit = {0}> { h = Relu(x) s = ReduceSum<keepdims=0>(h)"
        " zero = Constant<value = float {0}>() c = Greater(s, zero) y = If(c) <"
        "then_branch = t () => (float[N,4] p) { k = Add(h, limit) d = Greater(s, limit) e = ReduceMax<keepdims=0>(s) "
        "f = Greater(e, zero) p = If(f) <then_branch = tt () => (float[N,4] q) { q = Add(k, x) },"
        "else_branch = te () => (float[N,4] q) { q = Identity(h) }> },"
        "else_branch = e () => (float[N,4] p) { k = Neg(h) p = Identity(k) }> }"
    )


def loops() -> onnx.ModelProto:
    return text(
        "g (float[N,4] x) => (float[N,4] y) <int64 count = {3}, bool go = {1}> { h = Relu(x) y = Loop(count, go, h) <"
        "body = b (int64 i, bool on, float[N,4] v) => (bool off, float[N,4] w) { off = Identity(on) w = Add(v, x) }> }"
    )


def functions() -> onnx.ModelProto:
    """One calls the other, with an attribute."""
    return text(
        "g (float[N,4] x) => (float[N,4] y) { y = own.outer<alpha = 0.5>(x) }"
        '<domain: "own", opset_import: ["" : 20]> inner (a) => (b) { b = LeakyRelu<alpha = 0.25>(a) }'
        '<domain: "own", opset_import: ["" : 20, "own" : 1]> outer <alpha> (a) => (b)'
        " { h = own.inner(a) b = LeakyRelu<alpha: float = @alpha>(h) }",
        '<ir_version: 9, opset_import: ["" : 20, "own" : 1]>',
    )


def shapeless() -> onnx.ModelProto:
    model = text(
        "g (float[N,4] x) => (float y) <int64[2] s = {-1, 2}> { a = Reshape(x, s) b = Reshape(a, s) y = Relu(b) }"
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    return model


def unnamed() -> onnx.ModelProto:
    """Optional inputs that are left out."""
    return text("g (float[N,4] x) => (float[N,4] y) <float top = {1}> { y = Clip(x, , top) }")


def empty() -> onnx.ModelProto:
    return text("g (float[N,4] x) => (float[N,4] x) { }")


def doubled() -> onnx.ModelProto:
    """One value is two outputs' content."""
    return text("g (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Identity(y) }")


def constant_output() -> onnx.ModelProto:
    model = text("g (float[N,4] x) => (float[2] w, float[N,4] y) { y = Relu(x) }")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.float32), "w"))
    return model


MODELS = (
    sequences, optionals, strings, captured, loops, shapeless, unnamed, empty, doubled, constant_output,
)  # fmt: skip


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_awkward_models_compute_the_same(make: Any, tmp_path: Path) -> None:
    model = make()
    chain = run_all(model, tmp_path)
    made = chain.model
    assert interface(made) == interface(model)
    for inputs in ({"x": X}, {"x": -np.abs(X)}):
        assert not list(differences(evaluate(made, inputs), evaluate(model, inputs)))


@pytest.mark.parametrize("make", [captured, loops, functions, doubled, constant_output], ids=lambda make: make.__name__)
def test_onnxruntime_takes_them(make: Any, tmp_path: Path) -> None:
    """The reference implementation takes no attributes of functions; onnxruntime does."""
    model = make()
    made = run_all(model, tmp_path).model
    assert interface(made) == interface(model)
    for inputs in ({"x": X}, {"x": -np.abs(X)}):
        assert not list(differences(run(made, inputs), run(model, inputs)))


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_operators_of_other_domains_stay(tmp_path: Path) -> None:
    """What they compute is not known, so two of them are not one, and what they read stays."""
    model = text(
        "g (float[N,4] x) => (float[N,4] y) { c = Constant<value = float[1] {1}>() a = acme.Magic<k = 3>(x, c)"
        " b = acme.Other(x) y = Add(a, b) }",
        '<ir_version: 9, opset_import: ["" : 20, "acme" : 2]>',
    )
    made = run_all(model, tmp_path).model
    assert [node.op_type for node in made.graph.node if node.domain == "acme"] == ["Magic", "Other"]
    assert interface(made) == interface(model)
    assert {entry.domain: entry.version for entry in made.opset_import} == {"": 20, "acme": 2}


def test_training_information_is_passed_through(tmp_path: Path) -> None:
    model = text("g (float[N,4] x) => (float[N,4] y) { a = Identity(x) y = Relu(a) }")
    info = model.training_info.add()
    info.algorithm.name = "step"
    chain = run_all(model, tmp_path)
    assert chain.model.training_info == model.training_info
    assert operators(chain.model) == ["Identity", "Relu"]
    assert any("training information" in note for note in chain.notes)


def test_sparse_initializers_are_passed_through(tmp_path: Path) -> None:
    model = text("g (float[N,4] x) => (float[N,4] y) { a = Identity(x) y = Mul(a, w) }")
    values = numpy_helper.from_array(np.array([2.0], np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1])), [4])
    )
    chain = run_all(model, tmp_path)
    assert chain.model.graph.sparse_initializer == model.graph.sparse_initializer
    assert any("sparse initializers" in note for note in chain.notes)


def test_training_operators_stay(tmp_path: Path) -> None:
    model = text(
        "g (float[N,4] x) => (float[N,4] y) <float[4] s = {1,1,1,1}, float[4] b = {0,0,0,0}, float[4] m = {0,0,0,0},"
        "float[4] v = {1,1,1,1}> { y, rm, rv = BatchNormalization<training_mode = 1>(x, s, b, m, v) }"
    )
    made = run_all(model, tmp_path).model
    [node] = made.graph.node
    assert helper.get_node_attr_value(node, "training_mode") == 1


def test_invalid_models_raise_nothing_else(tmp_path: Path) -> None:
    """Loadable, and not to be believed: a missing value, a cycle, an operator of no opset, a name made twice."""
    bodies = (
        "g (float[N,4] x) => (float[N,4] y) { y = Add(x, nowhere) }",
        "g (float[N,4] x) => (float[N,4] y) { a = Add(x, b) b = Relu(a) y = Relu(b) }",
        "g (float[N,4] x) => (float[N,4] y) { y = NoSuchOperator(x) }",
        "g (float[N,4] x) => (float[N,4] y) { y = Reshape(x) }",
        "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) }",
        "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) y = Neg(x) }",
    )
    for number, body in enumerate(bodies):
        for row in rows():
            work = tmp_path / f"{number}-{row.info.name}"
            work.mkdir()
            try:
                run_pass(row.info.name.removeprefix("optimize."), text(body), work)
            except (StepError, ModelError) as error:
                assert error.message


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08" * 40])
def test_what_is_no_model_is_an_error_of_the_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    for row in rows():
        name = row.info.name.removeprefix("optimize.")
        with pytest.raises(ModelError, match="is no ONNX model"):
            run_pass(name, path, tmp_path)


# External data ----------------------------------------------------------------------------------------------------
def external(folder: Path) -> Path:
    """Weights beside the model, one of them twice, and a constant to fold."""
    weights = np.random.default_rng(1).standard_normal((2, 256, 256)).astype(np.float32)
    model = text(
        "g (float[N,256] x) => (float[N,256] y) <float one = {1}> { i = Mul(x, one) a = MatMul(i, w0) b = MatMul(a, w1)"
        " y = MatMul(b, w2) }"
    )
    for name, array in (("w0", weights[0]), ("w1", weights[1]), ("w2", weights[0])):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    path = folder / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    return path


def test_external_data_stays_external(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    path = external(tmp_path)
    chain = run_all(path, work)
    assert operators(chain.model) == ["MatMul", "MatMul", "MatMul"]
    assert chain.path.stat().st_size < 4096
    assert chain.path.with_name("weights.bin").is_file()
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)}
    assert not list(differences(evaluate(chain.model, inputs), evaluate(onnx.load(path), inputs)))
    assert "optimize.duplicate-initializers" in chain.changed


def test_large_passes_read_no_weights_into_memory(tmp_path: Path) -> None:
    """Of 64 MiB of weights, no pass for large models allocates one; what is mapped is the kernel's."""
    import tracemalloc

    size = 4096
    path = tmp_path / "large.onnx"
    model = text("g (float[N,4096] x) => (float[N,4096] y) { a = Identity(x) b = Identity(a) y = MatMul(b, w) }")
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[size, size])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size * size * 4)
    path.write_bytes(model.SerializeToString())
    work = tmp_path / "work"
    work.mkdir()
    names = [row.info.name.removeprefix("optimize.") for row in rows() if "large" in row.info.capabilities]
    assert len(names) >= 8
    run_pass("rewrite", text("g (float[N] x) => (float[N] y) { y = Relu(x) }"), work)  # imports
    for name in names:
        tracemalloc.start()
        result = run_pass(name, path, work)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size * size, (name, peak)
        if result.modified:
            assert result.model.parent == tmp_path, "no second copy of the weights"


# Determinism ------------------------------------------------------------------------------------------------------
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import plugins.optimize.tests.test_awkward as t
for number, make in enumerate(t.MODELS):
    work = Path(sys.argv[1]) / str(number); work.mkdir()
    print(hash("x") and t.run_all(make(), work).path.read_bytes().hex())
"""


def test_the_bytes_are_the_same_whatever_the_hash_seed(tmp_path: Path) -> None:
    """Sets of names are in another order in each process; the model is not."""
    import os
    import subprocess
    import sys

    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        root = Path(__file__).parents[3]
        environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True, env=environ
        )
        found.append(done.stdout)
    assert found[0] == found[1]
    assert len(found[0].split()) == len(MODELS)


def test_optimised_again_nothing_changes(tmp_path: Path) -> None:
    for number, make in enumerate(MODELS):
        work, again = tmp_path / f"{number}", tmp_path / f"{number}-again"
        work.mkdir()
        again.mkdir()
        assert run_all(run_all(make(), work).path, again).changed == []
