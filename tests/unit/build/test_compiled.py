"""What a compiler gives back is held against what it says; joint compiles; keepsakes; samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sdkpack.build.pack import PackResult
from sdkpack.errors import GateError, InputError, PluginBrokenError, SdkpackError
from sdkpack.host.registry import Registry
from tests.unit.build.conftest import RECIPE, Recorder
from tests.unit.model.models import matmul

Packed = Callable[..., PackResult]


@pytest.fixture(scope="session")
def registry() -> Registry:
    modules = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.plugins",
               "tests.unit.build.lying"]  # fmt: skip
    return Registry.of_modules(modules)


def recipe(lie: str = "", runtime: str = "test.lying", more: str = "") -> str:
    text = RECIPE.replace('"onnxruntime"', f'"{runtime}"') + f'targets.cpu.with.lie = "{lie}"\n'
    return text + more


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("models", "did not return one compiled model named 'net'"),
        ("role", "roles are not names"),
        ("fixes-silently", "does not say that it fixed N"),
        ("fixes-other", "and says 3 for N"),
        ("says-fixed", "says that it fixed N to 3"),
        ("fixes-nothing", "says that it fixed Q, which is no open dimension of model 'net'"),
        ("output-rank", r"returned a part that gives .*, the model gives"),
        ("output-size", r"returned a part that gives .*99.* for .*, and the model has"),
        ("output-type", r"gives .*float16.*, the model gives .*float32"),
        ("token", r"token 'lying/2' and the needs \{\}, ran it, .* refuses it: it was compiled for lying/2"),
        ("absorbed", "absorbed the steps nothing .* was offered .none."),
        ("too-much", "coverage of 2 nodes of 1"),
        ("prior", "prior outside of its work folder"),
    ],
)
def test_a_compiler_that_lies_is_named(packed: Packed, lie: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PluginBrokenError, match=told) as caught:
        packed(recipe(lie))
    assert "test.lying" in caught.value.message
    assert not (tmp_path / "out.sdkpack").exists()


def test_a_plugin_that_is_not_as_deterministic_as_it_says_is_named(packed: Packed, tmp_path: Path) -> None:
    packed(recipe("random"))
    (tmp_path / "out.sdkpack").unlink()
    told = "'test.lying' says that it is deterministic, and two runs of it gave other bytes: 0/model.onnx"
    with pytest.raises(PluginBrokenError, match=told) as caught:
        packed(twice=True)  # against what the store has
    assert caught.value.where == "net/compile/cpu"
    assert "deterministic=False" in caught.value.hint
    assert not (tmp_path / "out.sdkpack").exists()


def test_what_is_deterministic_may_run_twice(packed: Packed) -> None:
    once = packed(recipe())
    again = packed(twice=True, overwrite=True)
    assert again.identity == once.identity
    assert again.ran == 0, "what counts is the first run"


def test_the_truth_passes(packed: Packed) -> None:
    (variant,) = packed(recipe()).manifest.models["net"].variants
    assert variant.coverage is None


def test_what_was_asked_to_be_fixed_must_be(packed: Packed) -> None:
    with pytest.raises(PluginBrokenError, match="fixed N to 3, asked for was 4"):
        packed(recipe("says-fixed", more="targets.cpu.shapes.N = 4\n"))


def test_coverage_stands_in_the_manifest_and_is_a_gate(packed: Packed) -> None:
    found = packed(recipe("half")).manifest.models["net"].variants[0].coverage
    assert found is not None
    assert (found.nodes_on_device, found.nodes_total, found.unsupported) == (2, 4, ("Tanh",))
    with pytest.raises(GateError, match=r"2 of 4 nodes .* at least 0\.6; it lacks Tanh"):
        packed(recipe("half", more="targets.cpu.min_offload = 0.6\n"), overwrite=True)
    with pytest.raises(GateError, match="does not say how much"):
        packed(recipe(more="targets.cpu.min_offload = 0.6\n"), overwrite=True)


def test_models_of_a_target_are_compiled_together(packed: Packed, folder: Path, reporter: Recorder) -> None:
    onnx.save(matmul(seed=5), folder / "other.onnx")
    text = recipe(runtime="test.joint", more='models.other.source = "other.onnx"\n')
    result = packed(text)
    assert {step.id for step in result.plan.steps if step.kind == "compile"} == {
        "compile/cpu", "net/compile/cpu", "other/compile/cpu",
    }  # fmt: skip
    for model in ("net", "other"):
        (variant,) = result.manifest.models[model].variants
        assert {finding.check for finding in variant.evidence} == {"determinism", "parity"}
        assert variant.evidence[0].step == f"{model}/compile/cpu"
    again = packed(text, overwrite=True)
    assert again.ran == 0 and again.identity == result.identity


def test_a_keepsake_comes_back(packed: Packed, reporter: Recorder) -> None:
    packed(recipe())
    assert "prior 0; 0 samples" in reporter.texts
    packed(recipe("half"), overwrite=True)  # another key, the same models
    assert "prior 1; 0 samples" in reporter.texts


def sample(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "a.npz", **arrays)
    return recipe(more='models.net.samples = ["a.npz"]\n')


def test_samples_reach_the_compiler_and_not_the_bundle(packed: Packed, folder: Path, reporter: Recorder) -> None:
    (spec,) = packed(recipe()).manifest.models["net"].inputs
    x = np.full([2 if isinstance(size, str) else size for size in spec.shape], 0.25, spec.dtype)
    result = packed(sample(folder, **{spec.name: x}), overwrite=True)
    assert any(text.endswith("1 samples") for text in reporter.texts)
    parity = result.manifest.models["net"].variants[0].evidence[1]
    assert parity.note is not None and parity.note.startswith("one run on a sample")
    assert result.path is not None and x.tobytes() not in result.path.read_bytes()
    step = next(step for step in result.plan.steps if step.kind == "compile")
    assert len(step.params["samples"]) == 1


def test_a_sample_of_another_model_is_refused(packed: Packed, folder: Path) -> None:
    with pytest.raises(InputError, match=r"sample 'a\.npz' is none for this model"):
        packed(sample(folder, other=np.zeros(3, np.float32)))
    (folder / "a.npz").write_bytes(b"no archive")
    with pytest.raises(SdkpackError, match=r"a\.npz"):
        packed(recipe(more='models.net.samples = ["a.npz"]\n'))
