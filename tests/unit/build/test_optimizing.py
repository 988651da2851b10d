"""The guard around optimizers: what is right is kept, what is wrong is named and undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.deadline import within
from sdkpack.build.pack import PackResult
from sdkpack.errors import InternalError, PluginBrokenError, StepError, UsageError
from sdkpack.host.registry import Registry

RECIPE = """
recipe = 1
bundle = {{ name = "tiny", version = "1.0.0" }}
models.net.source = "net.onnx"
models.net.optimize = {{ {settings} }}
targets.cpu.runtime = "onnxruntime"
"""
Run = Callable[..., PackResult]


def _model() -> onnx.ModelProto:
    """y = relu(id(id(x w))), v = x w or its negative, as the sum of `mode` says; licence in the metadata."""

    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["h"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", 1, ["N", 4])])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Identity", ["h"], ["i"]),
        helper.make_node("Identity", ["i"], ["j"]),
        helper.make_node("Relu", ["j"], ["y"]),
        helper.make_node("Greater", ["mode", "seven"], ["which"]),
        helper.make_node(
            "If", ["which"], ["v"], then_branch=branch("yes", "Neg"), else_branch=branch("no", "Identity")
        ),
    ]
    rng = np.random.default_rng(3)
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
         helper.make_tensor_value_info("mode", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4]),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(rng.standard_normal((3, 4)).astype(np.float32), "w"),
         numpy_helper.from_array(np.int64(7000), "seven")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"license": "MIT", "classes": "a b"})
    return model


@pytest.fixture(scope="session")
def registry() -> Registry:
    modules = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.faulty"]
    found = Registry.of_modules(modules)
    assert [plugin.reason for plugin in found.plugins] == ["", "", ""]
    return found


@pytest.fixture
def run(packed: Run, folder: Path) -> Run:
    onnx.save(_model(), str(folder / "net.onnx"))

    def call(settings: str, recipe: str = RECIPE, **options: object) -> PackResult:
        return packed(recipe.format(settings=settings), overwrite=True, **options)

    return call


def _finding(result: PackResult, target: int = 0) -> Any:
    return next(one for one in result.manifest.models["net"].variants[target].evidence if one.check == "optimization")


def test_what_is_right_is_kept_until_nothing_is_left_to_do(run: Run, folder: Path) -> None:
    result = run('level = "safe"')
    assert [step.kind for step in result.plan.steps] == ["import", "optimize", "compile", "golden"]
    found = _finding(result)
    assert (found.passed, found.step) == (True, "net/optimize")
    assert "nodes 8 to 6; test.tidy" in found.note
    assert "N in 1, 2" in found.note
    assert "1 of 1 conditions seen both ways" in found.note
    assert found.tools == {"tidy": "1"}
    assert {tensor.name for tensor in found.tensors} == {"y", "v"}
    assert result.manifest.models["net"].metadata == {"license": "MIT", "classes": "a b"}
    again = run('level = "safe"')
    assert (again.ran, again.identity) == (0, result.identity)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("freeze", r"'x' became tensor\(float32, \[16, 3\]\), expected tensor\(float32, \[N, 3\]\)"),
        ("freeze-inside", r"it does not run with N = 2|it does not run with N ="),
        ("drop", r"it has the outputs y, expected y, v"),
        ("rename", r"it has the inputs other, mode, expected x, mode"),
        ("change", r"output 'y' differs with made inputs: normalised error 0\.01"),
        ("branch", r"output 'v' differs with mode = 7001"),
        ("grow", r"its constants grew from \d+ to \d+ bytes, allowed is one percent"),
        ("foreign", r"it uses com\.acme\.FastRelu, of a domain that is not allowed"),
        ("licence", r"it lost the metadata that says the licence"),
        ("loop", r"optimizer 'test\.fault' took longer than 3 s and was ended"),
        ("crash", r"optimizer 'test\.fault' crashed: ZeroDivisionError: one by none"),
        ("refuse", r"no appetite"),
        ("nonsense", r"it returned a str, expected an OptimizeResult"),
        ("outside", r"it returned no file of its work folder: 'model\.onnx'"),
        ("missing", r"its result 'nothing\.onnx' is not there"),
        ("garbage", r"not an ONNX model|damaged"),
    ],
)
def test_what_is_wrong_is_named_and_undone(run: Run, reporter: Any, fault: str, reason: str) -> None:
    result = run(f'level = "safe", with = {{ "test.fault" = {{ fault = "{fault}" }} }}')
    found = _finding(result)
    assert found.passed, "the other pass went on"
    assert "nodes 8 to 6; test.tidy; undone: test.fault (" in found.note
    import re

    assert re.search(reason, found.note), found.note
    assert any("pass 'test.fault' is undone" in warning for warning in reporter.warnings)


def test_with_strict_it_is_an_error(run: Run) -> None:
    with pytest.raises(StepError, match=r"pass 'test\.fault' would have to be undone: output 'y' differs") as error:
        run('strict = true, with = { "test.fault" = { fault = "change" } }')
    assert "optimize.passes" in error.value.hint


def test_passes_that_undo_each_other_come_to_an_end(run: Run) -> None:
    result = run('level = "none", passes = { "test.flip" = true }')
    assert "nodes 8 to 8; test.flip" in _finding(result).note


def test_targets_that_take_less_get_a_model_of_their_own(run: Run) -> None:
    recipe = RECIPE + 'targets.small.runtime = "test.few"\n'
    result = run('level = "safe", with = { "test.fault" = { fault = "max" } }', recipe)
    steps = [step.id for step in result.plan.steps if step.kind == "optimize"]
    assert steps == ["net/optimize", "net/optimize/2"]
    assert "test.fault, test.tidy" in _finding(result).note or "test.tidy, test.fault" in _finding(result).note
    few = _finding(result, 1)
    assert few.step == "net/optimize/2"
    assert "undone: test.fault (it uses Max, which the target lacks)" in few.note


def test_an_opset_that_a_target_lacks_is_undone(run: Run) -> None:
    recipe = RECIPE.replace('"onnxruntime"', '"test.few"')
    result = run('with = { "test.fault" = { fault = "opset" } }', recipe)
    assert "undone: test.fault (it imports opset 21, allowed is 9 to 17)" in _finding(result).note


def test_passes_are_switched_by_name(run: Run) -> None:
    result = run('passes = { "test.tidy" = false }, with = { "test.fault" = { fault = "max" } }')
    assert "nodes 8 to 8; test.fault" in _finding(result).note
    with pytest.raises(UsageError, match=r"there is no pass 'test\.tidi'") as error:
        run('passes = { "test.tidi" = true }')
    assert "did you mean 'test.tidy'?" in error.value.hint
    with pytest.raises(PluginBrokenError, match="wait for each other"):
        run('passes = { "test.first" = true, "test.second" = true }')


def test_a_model_that_answers_differently_each_time_is_left_as_it_is(run: Run, folder: Path) -> None:
    model = _model()
    model.graph.node.append(helper.make_node("RandomUniformLike", ["j"], ["r"]))
    model.graph.node[3].CopyFrom(helper.make_node("Add", ["j", "r"], ["y"]))
    model.graph.node.insert(3, model.graph.node.pop(-1))
    onnx.save(model, str(folder / "net.onnx"))
    found = _finding(run('level = "safe"'))
    assert not found.passed
    assert "it answers differently each time (output 'y'), so no pass can be judged" in found.note


def test_large_models_take_only_passes_that_leave_their_weights(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdkpack.build.guard.candidate.LARGE_BYTES", 1024)
    monkeypatch.setattr("sdkpack.build.steps.compiling._INLINE_BELOW_BYTES", 1024)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Identity", ["h"], ["i"]),
        helper.make_node("Relu", ["i"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 400])],
        [numpy_helper.from_array(np.full((3, 400), 0.5, np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "net.onnx"))
    result = run('level = "safe", passes = { "test.lean" = true }')
    found = _finding(result)
    assert not found.passed, "nothing was compared"
    assert "nodes 3 to 2; test.lean; not compared: its weights are larger" in found.note
    [parity] = [one for one in result.manifest.models["net"].variants[0].evidence if one.check == "parity"]
    assert parity.passed, "the weights are still there"


def test_no_optimizer_at_all_is_told(packed: Run, folder: Path) -> None:
    onnx.save(_model(), str(folder / "net.onnx"))
    bare = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin"])
    from sdkpack.errors import PluginError

    with pytest.raises(PluginError, match="no optimizer is installed"):
        packed(RECIPE.format(settings=""), registry=bare)


def test_a_candidate_is_read_like_an_authors_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(_model(), str(path))
    found = Candidate.read(path, name="net", folder=tmp_path / "parts")
    assert dict(found.nodes) == {"Greater": 1, "Identity": 3, "If": 1, "MatMul": 1, "Neg": 1, "Relu": 1}
    assert (found.node_count, found.large) == (8, False)


def test_within_passes_results_and_errors_on() -> None:
    assert within(lambda: 7, 10, what="it") == 7
    with pytest.raises(StepError, match="mine"):
        within(_raising(StepError("mine")), 10, what="it")
    with pytest.raises(InternalError, match="it crashed: ValueError: odd"):
        within(_raising(ValueError("odd")), 10, what="it")
    with pytest.raises(InternalError, match="it crashed: SystemExit"):
        within(_raising(SystemExit(0)), 10, what="it")


def _raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def test_one_model_without_a_recipe(registry: Registry, runner: Any, tmp_path: Path) -> None:
    from sdkpack.build.convert import convert
    from sdkpack.documents.recipe import ModelSection

    source = tmp_path / "in" / "net.onnx"
    source.parent.mkdir()
    onnx.save(_model(), str(source))
    section = ModelSection.from_object({"source": "x", "optimize": {"level": "safe"}})
    made = convert(source, registry=registry, runner=runner, section=section, out=tmp_path / "small.onnx")
    assert made.files == (tmp_path / "small.onnx",)
    assert dict(made.operators) == {"Greater": 1, "Identity": 1, "If": 1, "MatMul": 1, "Neg": 1, "Relu": 1}
    kept = [(one["name"], one["round"], one["verdict"]) for one in made.passes]
    assert kept == [("test.tidy", 1, "kept"), ("test.tidy", 2, "kept"), ("test.tidy", 3, "nothing to do")]
    assert made.graphs is not None
    before, after = (onnx.ModelProto.FromString(graph) for graph in made.graphs)
    assert (len(before.graph.node), len(after.graph.node)) == (6, 4)
    limited = convert(
        source, registry=registry, runner=runner, section=section, runtime="test.few", out=tmp_path / "few.onnx"
    )
    assert limited.ran == 1, "another profile, another model"
