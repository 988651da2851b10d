from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdkpack.build.load import load_recipe
from sdkpack.build.resolve import Resolution, resolve
from sdkpack.build.runner import StepRunner
from sdkpack.errors import (
    DocumentError,
    ExternalDataError,
    FileError,
    ModelError,
    PipelineError,
    PluginError,
    PluginMissingError,
    SdkpackError,
    UsageError,
)
from sdkpack.host.registry import Registry
from tests.unit.build.conftest import RECIPE, Recorder
from tests.unit.model.models import matmul, model_of

MAIN = '\n[pipelines.main]\ninputs.x = "tensor(float32, [N, 64])"\nsteps = [ { model = "net" } ]\n'


@pytest.fixture
def resolved(folder: Path, registry: Registry, runner: StepRunner) -> Any:
    def run(text: str = RECIPE, **options: Any) -> Resolution:
        (folder / "recipe.toml").write_text(text)
        return resolve(load_recipe(folder), registry=registry, runner=runner, **options)

    return run


def problems(error: SdkpackError) -> dict[str, str]:
    return {problem.path: problem.message for problem in error.problems}


def test_a_plan_says_every_step_and_input(resolved: Any) -> None:
    plan = resolved(RECIPE + MAIN).plan
    assert [(step.id, step.kind, step.plugin) for step in plan.steps] == [
        ("net/import", "import", "sdkpack"),
        ("net/compile/cpu", "compile", "onnxruntime"),
        ("net/golden", "golden", "sdkpack"),
    ]
    assert set(plan.inputs) == {"net.onnx"}
    assert plan.steps[1].inputs == ("net/import",)
    assert plan.pipelines["main"].steps[0].model == "net"
    assert {"sdkpack", "sdkpack-onnxruntime", "onnxruntime"} == set(plan.plugins)


def test_the_same_recipe_gives_the_same_plan_wherever_it_is(
    resolved: Any, folder: Path, tmp_path: Path, registry: Registry, runner: StepRunner
) -> None:
    first = resolved(RECIPE + MAIN).plan
    folder.rename(tmp_path / "elsewhere")
    second = resolve(load_recipe(tmp_path / "elsewhere"), registry=registry, runner=runner).plan
    assert first.to_json() == second.to_json()
    assert str(tmp_path) not in first.to_json()


def test_keys_change_with_what_they_depend_on_and_with_nothing_else(resolved: Any, folder: Path) -> None:
    def keys(text: str = RECIPE) -> dict[str, str]:
        return {step.id: step.key for step in resolved(text).plan.steps}

    before = keys()
    assert keys(RECIPE.replace("MIT", "Apache-2.0").replace("1.0.0", "2.0.0")) == before
    assert list(keys(RECIPE.replace("models.net", "models.other")).values()) == list(before.values())
    changed = keys(RECIPE + "targets.cpu.shapes = { N = 2 }\n")
    assert {name for name in before if changed[name] != before[name]} == {"net/compile/cpu", "net/golden"}
    onnx.save(matmul(seed=1), folder / "net.onnx")
    assert not set(keys().values()) & set(before.values())


def test_all_that_is_wrong_is_told_together(resolved: Any, folder: Path) -> None:
    (folder / "text.onnx").write_text("hello, I am no model")
    text = """
recipe = 1
bundle = { name = "tiny", version = "1.0.0" }
notices = [ { title = "x", file = "LICENCE" } ]
[models]
net.source = "net.onnx"
net.sample = { x = [1, 65], z = [1] }
gone.source = "nett.onnx"
text.source = "text.onnx"
net2.source = "package://no_such_package/x.onnx"
[targets]
cpu.runtime = "onnxruntim"
other.runtime = "test.runs"
third.runtime = "test.missing"
fourth = { runtime = "onnxruntime", precision = "int3" }
[pipelines.main]
inputs.x = "tensor(float32, [N, 63])"
steps = [ { model = "net", as = "y" }, { op = "no.such" } ]
samples = ["missing.npy"]
[pipelines.second]
inputs.x = "tensor(float32, [N, 64])"
steps = [ { model = "unknown" } ]
[pipelines.third]
inputs.x = "tensor(float32, [N, 64])"
steps = [ { model = "gone" } ]
[release.zip]
"""
    with pytest.raises(DocumentError) as error:
        resolved(text)
    found = problems(error.value)
    paths = [
        "targets.cpu.runtime", "targets.other.runtime", "targets.third.runtime", "pipelines.main.samples[0]",
        "models.gone.source", "models.text.source", "models.net2.source", "models.net.sample.x",
        "models.net.sample.z", "targets.fourth", "notices[0].file", "release.zip",
    ]  # fmt: skip
    assert {path for path in paths if path not in found} == set()
    assert any(path.startswith("pipelines.main.steps") for path in found)
    assert any(path.startswith("pipelines.second.steps") for path in found)
    # A pipeline whose model is missing is not told as wrong too.
    assert not any(path.startswith("pipelines.third") for path in found)
    assert error.value.exit_code == 2
    hints = " ".join(problem.hint for problem in error.value.problems)
    assert "did you mean 'net.onnx'" in hints
    assert "did you mean 'onnxruntime'?" in hints
    assert "pip install acme-toolkit" in hints


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (("net.onnx", "nett.onnx"), FileError, "recipe.toml: models.net.source: net"),
        (("net.onnx", "../net.onnx"), UsageError, "leads out of its folder"),
        (("onnxruntime", "nonsense"), PluginMissingError, "recipe.toml: targets.cpu.runtime"),
        (("onnxruntime", "test.missing"), PluginError, "cannot compile here: acme-toolkit 3"),
        (("onnxruntime", "test.runs"), PluginMissingError, "no compiler half"),
    ],
)
def test_one_error_keeps_its_kind_and_gets_its_place(
    resolved: Any, change: tuple[str, str], kind: type[SdkpackError], text: str
) -> None:
    with pytest.raises(kind) as error:
        resolved(RECIPE.replace(*change))
    assert text.split(": net")[0] in str(error.value)
    assert error.value.hint


def test_a_package_path_that_is_none_is_told(resolved: Any, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"package path .*nowhere' is no folder"):
        resolved(package_paths=[tmp_path / "nowhere"])


def test_a_pipeline_s_error_stays_one(resolved: Any) -> None:
    with pytest.raises(PipelineError) as error:
        resolved(RECIPE + MAIN.replace("64", "63"))
    assert "pipelines.main" in str(error.value)


def test_a_runtime_s_settings_are_checked(resolved: Any) -> None:
    with pytest.raises(DocumentError, match="unknown parameter"):
        resolved(RECIPE + "targets.cpu.with = { no_such_setting = 1 }\n")


@pytest.mark.parametrize("name", ["con", "AUX", "nul"])
def test_names_that_some_system_cannot_use_are_refused(resolved: Any, name: str) -> None:
    with pytest.raises(DocumentError, match="Windows reserves"):
        resolved(RECIPE.replace("models.net", f"models.{name}"))


def test_names_that_differ_only_in_case_are_refused(resolved: Any) -> None:
    with pytest.raises(DocumentError, match="only in upper and lower case"):
        resolved(RECIPE + 'models.NET.source = "net.onnx"\n')


def test_a_model_that_is_none_is_told_with_its_place(resolved: Any, folder: Path) -> None:
    (folder / "net.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match=r"models\.net\.source.*Git LFS") as error:
        resolved()
    assert "git lfs pull" in error.value.hint


# External data ----------------------------------------------------------------------------------------------------
def external(folder: Path, location: str = "net.weights", *, seed: int = 0) -> None:
    model = matmul(seed=seed)
    tensor = model.graph.initializer[0]
    data = numpy_helper.to_array(tensor).tobytes()
    (folder / "net.weights").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(data))}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "net.onnx").write_bytes(model.SerializeToString())


def test_external_data_is_an_input_of_the_plan(resolved: Any, folder: Path, reporter: Recorder) -> None:
    external(folder)
    first = resolved()
    assert set(first.plan.inputs) == {"net.onnx", "net.onnx#net.weights"}
    assert resolved().imports["net"].cached
    external(folder, seed=5)  # the model's own file has another bias, too
    model = (folder / "net.onnx").read_bytes()
    third = resolved()
    assert not third.imports["net"].cached
    (folder / "net.weights").write_bytes(np.ones((64, 64), np.float32).tobytes())
    assert (folder / "net.onnx").read_bytes() == model
    assert not resolved().imports["net"].cached


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "missing", "link", "fifo", "sub/../../secret"])
def test_hostile_external_data_is_refused_by_the_model_s_resolver(
    resolved: Any, folder: Path, location: str, tmp_path: Path
) -> None:
    import os

    (tmp_path / "secret").write_bytes(bytes(64 * 64 * 4))
    (folder / "link").symlink_to("../secret")
    os.mkfifo(folder / "fifo")
    external(folder, location)
    with pytest.raises(ExternalDataError):
        resolved()


def test_equal_models_are_imported_once(resolved: Any, folder: Path, reporter: Recorder) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    onnx.save(model_of(helper.make_graph([node], "none", [x], [y])), folder / "net.onnx")
    resolution = resolved(RECIPE + 'models.twin.source = "net.onnx"\n')
    assert resolution.imports["net"].result == resolution.imports["twin"].result
