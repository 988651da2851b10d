"""A compressor's loss is measured by the core, held against the recipe's budget, and stands in the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdkpack.build.npz import write_npz
from sdkpack.build.pack import PackResult
from sdkpack.errors import DocumentError, GateError, PluginBrokenError, PluginMissingError, UsageError
from sdkpack.host.registry import Registry
from tests.unit.model.models import matmul

RECIPE = """
recipe = 1
bundle = {{ name = "tiny", version = "1.0.0" }}
models.net.source = "net.onnx"
{settings}
targets.cpu.runtime = "onnxruntime"
"""

Pack = Callable[[str], PackResult]


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.converters"])


@pytest.fixture
def compress(packed: Callable[..., PackResult]) -> Pack:
    return lambda settings: packed(RECIPE.format(settings=settings), overwrite=True)


def test_float16_halves_a_model_and_says_what_it_cost(compress: Pack, folder: Path) -> None:
    import sdkpack

    onnx.save(matmul(rows=512, cols=512), folder / "net.onnx")
    plain = compress("")
    half = compress('models.net.compress = { scheme = "float16" }')
    sizes = [next(iter(run.manifest.models.values())).variants[0].parts[0].files for run in (plain, half)]
    assert len(sizes) == 2
    assert half.size_bytes < 0.62 * plain.size_bytes
    variant = half.manifest.models["net"].variants[0]
    assert variant.precision == "float16"
    loss = variant.evidence[0]
    assert (loss.check, loss.step, loss.passed) == ("loss", "net/compress", True)
    assert 0 < loss.tensors[0].normalized_error < 2e-2
    assert loss.tensors[0].tolerance == 2e-2
    assert loss.tensors[0].snr_db is not None
    assert loss.tensors[0].snr_db > 40
    assert "onnxruntime" in loss.tools
    assert [finding.check for finding in variant.evidence] == ["loss", "determinism", "parity"]
    assert [step.kind for step in half.plan.steps] == ["import", "compress", "compile", "golden"]
    x = np.random.default_rng(1).standard_normal((2, 512)).astype("float32")
    answers = []
    for result in (plain, half):
        assert result.path is not None
    with sdkpack.open(half.path, allow_unsigned=True) as session:
        answers.append(session.run("net", {"x": x})["y"])
    model = onnx.load(folder / "net.onnx")
    weights, bias = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    expected = x @ weights + bias
    assert answers[0].dtype == np.float32
    error = np.abs(answers[0] - expected).max() / np.abs(expected).max()
    assert 0 < error < 2e-2, "another answer than float32's, and close to it"


def test_a_budget_that_is_not_met_is_a_gate(compress: Pack, folder: Path) -> None:
    with pytest.raises(
        GateError, match=r"loses too much: output 'y' has a normalised error of .* allowed is 1e-06"
    ) as e:
        compress('models.net.compress = { scheme = "float16", max_error = 1e-6 }')
    assert e.value.exit_code == 6
    assert "max_error" in e.value.hint
    assert not (folder.parent / "out.sdkpack").exists()


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.04, True), (1.06, False), (-1.0, False)])
def test_the_core_measures_and_does_not_ask(compress: Pack, factor: float, passes: bool) -> None:
    text = f'models.net.compress = {{ scheme = "test.halver", max_error = 0.05, with = {{ factor = {factor} }} }}'
    if passes:
        loss = compress(text).manifest.models["net"].variants[0].evidence[0]
        assert loss.tensors[0].normalized_error == pytest.approx(abs(factor - 1), abs=1e-4)
    else:
        with pytest.raises(GateError):
            compress(text)


def test_real_samples_are_what_is_measured_on(compress: Pack, folder: Path) -> None:
    # Zero for zero: with this sample a factor of 2 changes the bias alone.
    (folder / "zero.npz").write_bytes(write_npz({"x": np.zeros((1, 64), "float32")}))
    result = compress('models.net.compress = { scheme = "float16", samples = ["zero.npz"] }')
    loss = result.manifest.models["net"].variants[0].evidence[0]
    assert "1 samples" in (loss.note or "")
    assert "zero.npz" in result.plan.inputs
    (folder / "zero.npz").write_bytes(write_npz({"z": np.zeros((1, 64), "float32")}))
    with pytest.raises(GateError, match=r"cannot be measured: sample 'zero\.npz' holds z, expected x"):
        compress('models.net.compress = { scheme = "float16", samples = ["zero.npz"] }')


def test_defaults_apply_to_models_without_settings_of_their_own(compress: Pack) -> None:
    assert compress('defaults.compress.scheme = "float16"').manifest.models["net"].variants[0].precision == "float16"
    off = compress('defaults.compress.scheme = "float16"\nmodels.net.compress.scheme = "none"')
    assert off.manifest.models["net"].variants[0].precision == "float32"
    assert [step.kind for step in off.plan.steps] == ["import", "compile", "golden"]


def test_what_cannot_be_measured_is_not_waved_through(compress: Pack, folder: Path) -> None:
    model = matmul()
    node = onnx.helper.make_node("RandomNormalLike", ["h"], ["noise"])
    model.graph.node.insert(1, node)
    model.graph.node[2].input[0] = "noise"
    onnx.save(model, folder / "net.onnx")
    with pytest.raises(GateError, match=r"cannot be measured: .*draws random numbers"):
        compress('models.net.compress = { scheme = "float16" }')


def test_a_compressor_keeps_inputs_and_outputs(compress: Pack) -> None:
    with pytest.raises(PluginBrokenError, match="changed the inputs of 'net'"):
        compress('models.net.compress = { scheme = "test.halver", with = { rename = "z" } }')
    with pytest.raises(PluginBrokenError, match="says that it made 'int4', which it does not declare"):
        compress('models.net.compress = { scheme = "test.halver", with = { precision = "int4" } }')


def test_wrong_settings_are_told(compress: Pack) -> None:
    with pytest.raises(PluginMissingError, match="has a compressor 'flaot16'"):
        compress('models.net.compress = { scheme = "flaot16" }')
    with pytest.raises(UsageError, match="cannot make 'int8', expected float16"):
        compress('models.net.compress = { scheme = "float16", precision = "int8" }')
    with pytest.raises(DocumentError, match="max_error"):
        compress('models.net.compress = { scheme = "float16", max_error = -0.1 }')


def test_the_second_build_does_no_work(compress: Pack) -> None:
    compress('models.net.compress = { scheme = "float16" }')
    again = compress('models.net.compress = { scheme = "float16" }')
    assert again.ran == 0
