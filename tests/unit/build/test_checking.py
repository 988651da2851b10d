"""The ONNX model against its source, run by the source's own framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdkpack.build.pack import PackResult
from sdkpack.errors import DocumentError, InputError, ModelError, ParityError, PluginBrokenError, StepError, UsageError
from sdkpack.host.registry import Registry

RECIPE = """
recipe = 1
bundle = {{ name = "tiny", version = "1.0.0" }}
models.net.source = "net.txt"
{settings}
targets.cpu.runtime = "onnxruntime"
"""
LAYERS = 'NET[["Mul", 2], ["Add", 3], ["Mul", 0.5], ["Sub", 1]]'
QUANTIZED = 'NET[["Mul", 100], ["Quantize", 0]]'

Run = Callable[..., PackResult]


@pytest.fixture(scope="session")
def registry() -> Registry:
    modules = [
        "sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "sdkpack_vision.plugin", "tests.unit.build.nets"
    ]  # fmt: skip
    found = Registry.of_modules(modules)
    assert [plugin.reason for plugin in found.plugins] == [""] * 4
    return found


@pytest.fixture
def run(packed: Run, folder: Path) -> Run:
    (folder / "net.txt").write_text(LAYERS)

    def call(settings: str = "", **options: object) -> PackResult:
        return packed(RECIPE.format(settings=settings), overwrite=True, **options)

    return call


def test_what_was_found_is_kept_as_evidence(run: Run) -> None:
    result = run()
    [variant] = result.manifest.models["net"].variants
    assert [found.check for found in variant.evidence] == ["conversion", "determinism", "parity"]
    found = variant.evidence[0]
    assert (found.passed, found.step, found.reference) == (True, "net/check", "the source, by test.net")
    assert found.tools == {"net": "1"}
    assert found.where.kind == "host"
    assert len(found.samples) == 2
    assert [tensor.name for tensor in found.tensors] == ["y"]
    assert found.tensors[0].normalized_error < 1e-6
    assert found.note is not None
    assert "the source is deterministic" in found.note


@pytest.mark.parametrize("wrong", range(4))
def test_the_first_tensor_that_differs_is_named(run: Run, wrong: int) -> None:
    with pytest.raises(ParityError, match="is not what its source computes: output 'y' differs") as error:
        run(f"models.net.convert.with.wrong = {wrong}")
    name = "y" if wrong == 3 else f"t{wrong}"
    kind = ["Mul", "Add", "Mul", "Sub"][wrong]
    assert f"the first tensor that differs is {name!r} of {kind} node 'layer{wrong}'" in error.value.message
    agrees = f", the last one that agrees is 't{wrong - 1}'"
    assert (agrees in error.value.message) == (wrong > 0)
    assert "models.net.convert.max_error" in error.value.hint


def test_where_the_source_shows_nothing_that_is_told(run: Run) -> None:
    with pytest.raises(ParityError, match="the source shows no inner tensors, so where it begins is not known"):
        run("models.net.convert.with = { wrong = 1, hide = true }")


def test_a_known_difference_can_be_accepted(run: Run) -> None:
    result = run("models.net.convert = { with = { wrong = 1 }, max_error = 0.9 }")
    found = result.manifest.models["net"].variants[0].evidence[0]
    assert (found.passed, found.tensors[0].tolerance) == (True, 0.9)
    assert found.tensors[0].normalized_error > 0.1


def test_a_source_that_is_not_deterministic_is_refused(run: Run) -> None:
    with pytest.raises(ModelError, match="the source of 'net' is not deterministic: two runs on one input") as error:
        run("models.net.convert.with.live = true")
    assert "dropout" in error.value.hint
    result = run("models.net.convert = { with = { live = true }, compare = false }")
    found = result.manifest.models["net"].variants[0].evidence[0]
    assert (found.check, found.passed) == ("conversion", False)
    assert found.note is not None
    assert "not compared with its source" in found.note


def test_a_source_that_cannot_be_run_here_proves_nothing(run: Run) -> None:
    result = run("models.net.convert.with.unable = true")
    found = result.manifest.models["net"].variants[0].evidence[0]
    assert (found.check, found.passed) == ("conversion", False)
    assert found.note == "not compared with its source: its framework is retired"


def test_an_answer_without_the_output_is_the_plugins_fault(run: Run) -> None:
    with pytest.raises(PluginBrokenError, match="ran the source and gave no 'y'"):
        run("models.net.convert.with.lose = true")


def test_a_quantised_output_may_be_one_step_off_in_one_of_a_hundred(run: Run, folder: Path) -> None:
    (folder / "net.txt").write_text(QUANTIZED)
    wide = "models.net.inputs.x.shape = [1, 200]"
    result = run(f"models.net.convert.with.off = 1\n{wide}")
    entry = result.manifest.models["net"]
    note = entry.variants[0].evidence[0].note
    assert note is not None
    assert "equal in 99.50% of its elements and one step off" in note
    [output] = entry.outputs
    assert (output.layout, output.quant is not None and output.quant.zero_point) == ("NC", (128,))
    with pytest.raises(ParityError):
        run(f"models.net.convert.with.off = 2\n{wide}")
    with pytest.raises(ParityError):
        run("models.net.convert.with.off = 1\nmodels.net.inputs.x.shape = [1, 50]")


def test_declared_inputs_reach_the_converter_and_the_manifest(run: Run) -> None:
    result = run('models.net.inputs.x = { shape = ["batch", 5], layout = "NC", range = [0.0, 1.0] }')
    [spec] = result.manifest.models["net"].inputs
    assert (spec.shape, spec.layout) == (("batch", 5), "NC")


def test_declarations_that_do_not_fit_are_refused(run: Run) -> None:
    with pytest.raises(ModelError, match="input 'x' is declared as float64, the model takes float32"):
        run('models.net.inputs.x.dtype = "float64"')
    with pytest.raises(DocumentError, match=r"models\.net\.inputs\.z"):
        run('models.net.inputs.z.layout = "NC"')
    with pytest.raises(DocumentError, match=r"models\.net\.inputs\.x\.range"):
        run("models.net.inputs.x.range = [1.0, 1.0]")


def test_real_samples_take_the_place_of_made_ones(run: Run, folder: Path) -> None:
    np.savez(folder / "a.npz", x=np.array([[1, 2, 3]], np.float32))
    result = run('models.net.samples = ["a.npz"]')
    found = result.manifest.models["net"].variants[0].evidence[0]
    assert found.note is not None
    assert "1 runs on samples of x [1, 3]" in found.note
    assert "a.npz" in result.plan.inputs


STEPS = """
models.net.samples = ["photo.png"]
models.net.inputs.x.shape = ["N", 3, "H", "W"]
models.net.inputs.x.steps = [
  { op = "image.decode" }, { op = "image.resize", with = { width_px = 8, height_px = 4 } },
  { op = "image.to_tensor" },
]
"""


def test_an_image_becomes_an_input_by_the_steps_of_a_pipeline(run: Run, folder: Path) -> None:
    import cv2

    cv2.imwrite(str(folder / "photo.png"), np.full((16, 16, 3), 100, np.uint8))
    found = run(STEPS).manifest.models["net"].variants[0].evidence[0]
    assert found.note is not None
    assert "1 runs on samples of x [1, 3, 4, 8]" in found.note
    with pytest.raises(InputError, match=r"models\.net\.inputs\.x\.steps: expected one tensor from them, got image"):
        run(STEPS.replace('{ op = "image.to_tensor" },', ""))
    with pytest.raises(UsageError, match=r"sample 'photo\.png' is no npz file, and no input says how it is read"):
        run('models.net.samples = ["photo.png"]')


def test_the_newest_opset_of_the_targets_is_asked_for(run: Run) -> None:
    result = run("models.net.convert.opset = 13")
    step = next(step for step in result.plan.steps if step.kind == "convert")
    assert step.params["opset"] == 13


def test_code_is_allowed_to_nobody_who_does_not_ask(run: Run) -> None:
    with pytest.raises(UsageError, match=r"converter 'test\.net' takes no sources with code"):
        run("models.net.convert.allow_code = true")


def test_a_converted_model_is_cut(run: Run) -> None:
    result = run('models.net.cut = { inputs = ["t0"], outputs = ["t2"] }')
    entry = result.manifest.models["net"]
    assert ([one.name for one in entry.inputs], [one.name for one in entry.outputs]) == (["t0"], ["t2"])
    assert [step.kind for step in result.plan.steps] == ["convert", "check", "cut", "compile", "golden"]
    assert entry.variants[0].evidence[0].check == "conversion"
    with pytest.raises(ModelError, match=r"the graph has no tensor 't9'"):
        run('models.net.cut.outputs = ["t9"]')


def test_a_model_outside_of_the_runtimes_opsets_is_refused(run: Run, packed: Run) -> None:
    old = RECIPE.format(settings="").replace('"onnxruntime"', '"test.old"')
    result = packed(old, overwrite=True)
    assert next(step for step in result.plan.steps if step.kind == "convert").params["opset"] == 12
    with pytest.raises(
        StepError, match="cannot compile 'net': its operators are of opset 17, expected 9 to 12"
    ) as error:
        packed(old.replace("net.txt", "net.onnx"), overwrite=True)
    assert "export it with opset 12" in error.value.hint
