"""The converters as a build meets them: code only where it is allowed, and then only in a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import sdkpack
from plugins.tensorflow.tests.bench import Bench, canary, error_of, load, run_onnx
from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.errors import ModelError
from sdkpack.host.registry import Registry
from sdkpack.plugin import Probe

LAMBDAS = [
    ("tensorflow.keras", "lambda.keras"),
    ("tensorflow.h5", "lambda.h5"),
    ("tensorflow.h5", "old_lambda.h5"),
]
X = np.float32([[1, -2, 3, 0.5]])


def outside(bench: Bench) -> bool:
    """Whether code reached beyond its folder; where the kernel cannot stop that, the build says so."""
    assert bench.isolation
    files = bench.isolation.get("files", "")
    if files.startswith("not enforced"):
        pytest.skip(f"this kernel does not keep a toolchain from files: {files}")
    return canary().exists()


@pytest.mark.parametrize(("converter", "source"), LAMBDAS, ids=[source for _, source in LAMBDAS])
def test_an_allowed_lambda_runs_in_the_worker_alone(bench: Bench, made: Path, converter: str, source: str) -> None:
    canary().unlink(missing_ok=True)
    converted = bench.convert(converter, made / source, allow_code=True)
    assert not outside(bench)
    assert list(converted.work.rglob("canary")), "the Lambda did not run, so this test shows nothing"
    name = onnx.load(converted.model).graph.input[0].name
    (found,) = run_onnx(converted.model, {name: X}).values()
    assert np.array_equal(found, X * 2)


def test_a_lambda_that_is_not_allowed_runs_nowhere(bench: Bench, made: Path) -> None:
    canary().unlink(missing_ok=True)
    with pytest.raises(ModelError, match="brings code, which does not run unless you allow it: Lambda") as caught:
        bench.convert("tensorflow.keras", made / "lambda.keras")
    assert "convert.allow_code = true" in caught.value.hint
    assert "--allow-code" in caught.value.hint
    assert not canary().exists()
    assert not list(bench.folder.rglob("canary"))


def test_the_authors_own_layers(bench: Bench, made: Path) -> None:
    files = {"code": made / "own_layers.py"}
    converted = bench.convert("tensorflow.keras", made / "own.keras", allow_code=True, files=files)
    stored = load(made / "own.keras.npz")
    inputs = {name[3:]: value for name, value in stored.items() if name.startswith("in/")}
    (found,) = run_onnx(converted.model, inputs).values()
    assert error_of(found, stored["out/0"]) <= 1e-6


def test_progress_is_told(bench: Bench, made: Path) -> None:
    bench.convert("tensorflow.tflite", made / "signed.tflite")
    told = list(dict.fromkeys(text for text in bench.said if text))
    steps = ["loading TensorFlow", "reading signed.tflite", "writing ONNX", "checking"]
    # What is told within a twentieth of a second after another text is left out.
    assert told == [step for step in steps if step in told]
    assert {"loading TensorFlow", "reading signed.tflite"} <= set(told)


def test_the_probe_names_versions(bench: Bench) -> None:
    said: Probe = bench.tool("tensorflow.tflite").probe()
    assert said.ok
    assert "tensorflow 2.21.0" in said.fingerprint
    assert "tf2onnx 1.17.0" in said.fingerprint


def test_the_same_source_becomes_the_same_bytes(bench: Bench, made: Path) -> None:
    models = [bench.convert("tensorflow.keras", made / "multi.keras").model.read_bytes() for _ in range(2)]
    assert models[0] == models[1]


RECIPE = """
recipe = 1
bundle = { name = "networks", version = "1.0.0" }
models.net.source = "net.keras"
models.lite.source = "lite.tflite"
targets.cpu.runtime = "onnxruntime"
"""


def test_a_recipe_names_the_files_alone(made: Path, tmp_path: Path, bench: Bench) -> None:
    """The formats are found by content, and a second build serves both from the store."""
    bench.tool("tensorflow.keras")
    shutil.copyfile(made / "multi.keras", tmp_path / "net.keras")
    shutil.copyfile(made / "signed.tflite", tmp_path / "lite.tflite")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    modules = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "sdkpack_tensorflow.plugin"]
    registry = Registry.of_modules(modules)
    with Store(tmp_path / "store") as store:
        first = pack(tmp_path, registry=registry, store=store, out=tmp_path / "a.sdkpack")
        again = pack(tmp_path, registry=registry, store=store, out=tmp_path / "b.sdkpack")
    assert (again.ran, again.cached) == (0, first.ran)
    assert first.manifest.models["net"].source.format == "application/vnd.keras.v3"
    assert first.manifest.models["lite"].source.format == "application/vnd.tensorflow.lite"
    stored = load(made / "multi.keras.npz")
    inputs = {name[3:]: value for name, value in stored.items() if name.startswith("in/")}
    assert first.path is not None
    with sdkpack.open(first.path, allow_unsigned=True) as session:
        found = session.run("net", inputs)
    assert error_of(found["out"], stored["out/0"]) <= 1e-6
