from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdkpack.build.digests import digest_bytes
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.npz import read_npz
from sdkpack.build.pack import PackResult
from sdkpack.build.runner import StepRunner
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.importing import Imported, import_step, stamp_model
from sdkpack.build.steps.parity import ParitySettings, judge
from sdkpack.build.steps.reference import NotComparableError, run_reference
from sdkpack.build.steps.samples import fit_samples, given_shapes, shape_problem
from sdkpack.build.store import Store
from sdkpack.bundle import TrustPolicy, open_bundle
from sdkpack.errors import InterruptedRunError, ModelError, ParityError, RunError, StepError
from sdkpack.types import TensorSpec
from tests.unit.build.conftest import RECIPE, Recorder
from tests.unit.model.models import matmul, model_of

FAULTY = RECIPE.replace('"onnxruntime"', '"test.faulty"') + "targets.cpu.with = {}\n"


def faulty(**settings: Any) -> str:
    pairs = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
    return FAULTY.replace("{}", f"{{ {pairs} }}")


# judge ------------------------------------------------------------------------------------------------------------
def test_equal_and_nearly_equal_outputs_pass() -> None:
    reference = np.linspace(-1, 1, 100, dtype=np.float32)
    assert judge("y", reference, reference, tolerance=1e-4).passed
    assert judge("y", reference + np.float32(5e-5), reference, tolerance=1e-4).passed
    assert not judge("y", reference + np.float32(5e-4), reference, tolerance=1e-4).passed


@pytest.mark.parametrize(
    "output",
    [
        np.zeros((10, 10), np.float32),
        np.zeros(100, np.float64),
        np.full(100, np.nan, np.float32),
        np.full(100, np.inf, np.float32),
        np.zeros(0, np.float32),
    ],
)
def test_another_shape_type_or_nan_never_passes(output: Any) -> None:
    assert not judge("y", output, np.linspace(-1e-9, 1e-9, 100, dtype=np.float32), tolerance=1e-4).passed


def test_a_faint_output_passes_by_its_form_and_only_then() -> None:
    noise = np.random.default_rng(0)
    reference = noise.uniform(0, 4e-5, 1000).astype(np.float32)
    rounded = reference + noise.uniform(-1e-7, 1e-7, 1000).astype(np.float32)
    verdict = judge("y", rounded, reference, tolerance=1e-4)
    assert verdict.passed
    assert verdict.faint
    assert verdict.tolerance == pytest.approx(2**-21 / reference.max())
    assert verdict.difference.normalized_error <= verdict.tolerance
    # The same amplitude with another form is another model.
    assert not judge("y", np.roll(reference, 1), reference, tolerance=1e-4).passed
    weak = (reference / 10).astype(np.float32)
    assert not judge("y", np.roll(weak, 1), weak, tolerance=1e-4).passed
    # Below the rounding of one there is no form left; the evidence says that it says little.
    lost = judge("y", np.roll(weak / 10, 1), weak / 10, tolerance=1e-4)
    assert lost.passed
    assert lost.faint


def test_an_output_of_zeros_passes_and_says_little() -> None:
    zeros = np.zeros(10, np.float32)
    verdict = judge("y", zeros + np.float32(1e-7), zeros, tolerance=1e-4)
    assert verdict.passed
    assert verdict.faint
    assert not judge("y", zeros + np.float32(1e-6), zeros, tolerance=1e-4).passed


def test_integers_and_text_have_no_faintness() -> None:
    assert not judge("y", np.array([0]), np.array([1]), tolerance=1e-4).passed
    assert not judge("y", np.array(["a"], object), np.array(["b"], object), tolerance=1e-4).passed


def test_a_verdict_is_a_document() -> None:
    import json

    for output in (np.ones(3, np.float32), np.full(3, np.nan, np.float32), -np.ones(3, np.float32)):
        text = json.dumps(judge("y", output, np.ones(3, np.float32), tolerance=1e-4).as_json(), allow_nan=False)
        assert "-0.0" not in text


# The step ---------------------------------------------------------------------------------------------------------
def test_another_answer_than_the_source_s_ends_the_pack_with_6(packed: Callable[..., PackResult], store: Store) -> None:
    with pytest.raises(ParityError, match="output 'y' differs") as error:
        packed(faulty(factor=1.01))
    assert error.value.exit_code == 6
    assert "model 'net' on 'test.faulty'" in error.value.message
    assert "expected a normalised error of at most 0.0001, got 0.01 (SNR 40.0 dB" in error.value.message
    assert "inputs of x [1, 64]" in error.value.message
    assert packed(faulty(factor=1.00001)).ran == 2


def test_a_model_that_is_not_deterministic_is_packed_without_a_recording(
    packed: Callable[..., PackResult], reporter: Recorder
) -> None:
    result = packed(faulty(noise=0.5))
    variant = result.manifest.models["net"].variants[0]
    assert [(found.check, found.passed) for found in variant.evidence] == [("determinism", False)]
    assert result.manifest.models["net"].golden is None
    assert "other outputs for the same inputs" in reporter.warnings[0]


def test_evidence_says_what_was_compared_with_what(packed: Callable[..., PackResult]) -> None:
    result = packed()
    determinism, parity = result.manifest.models["net"].variants[0].evidence
    assert (determinism.check, parity.check) == ("determinism", "parity")
    assert parity.reference.startswith("onnx.reference ")
    assert parity.step == "net/compile/cpu"
    assert parity.where.kind == "host"
    assert parity.where.runtime == "onnxruntime"
    assert {"sdkpack", "onnxruntime", "sdkpack-onnxruntime", "onnx"} <= set(parity.tools)
    assert [tensor.name for tensor in parity.tensors] == ["y"]
    assert parity.tensors[0].normalized_error < 1e-5
    # The digest is that of the recorded inputs, so the run can be repeated from the bundle alone.
    golden = result.manifest.models["net"].golden
    assert golden is not None
    assert result.path is not None
    with open_bundle(result.path) as bundle:
        verified = bundle.verify(policy=TrustPolicy(allow_unsigned=True))
        inputs, outputs = verified.read(golden.inputs), verified.read(golden.outputs)
    assert parity.samples == (digest_bytes(inputs),)
    model = onnx.load(Path(result.path).parent / "recipe" / "net.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    expected = read_npz(inputs)["x"] @ weights["w"] + weights["b"]
    np.testing.assert_allclose(read_npz(outputs)["y"], expected, rtol=1e-4, atol=1e-5)


def test_shapes_come_from_the_author_where_he_states_them(packed: Callable[..., PackResult]) -> None:
    result = packed(RECIPE + "models.net.sample = { x = [5, 64] }\n")
    assert "x [5, 64]" in (result.manifest.models["net"].variants[0].evidence[1].note or "")


def test_what_the_reference_cannot_do_is_told(
    packed: Callable[..., PackResult], folder: Path, reporter: Recorder
) -> None:
    onnx.save(matmul(), folder / "net.onnx")
    result = packed(parity=ParitySettings(limit_s=0.0))
    evidence = result.manifest.models["net"].variants[0].evidence
    assert [found.check for found in evidence] == ["determinism"]
    assert "takes longer than 0 s" in (evidence[0].note or "")
    assert "takes longer than 0 s" in reporter.warnings[0]


# The reference ----------------------------------------------------------------------------------------------------
@pytest.fixture
def imported(runner: StepRunner, store: Store, tmp_path: Path) -> Callable[[onnx.ModelProto], Imported]:
    def run(model: onnx.ModelProto) -> Imported:
        onnx.save(model, tmp_path / "m.onnx")
        source = SourceFile(reference="m.onnx", path=tmp_path / "m.onnx")
        fingerprints = Fingerprints()
        step = import_step("m", stamp_model(source, store, fingerprints), store, fingerprints)
        return Imported(runner.run([step]).done["m/import"].result)

    return run


def reference(imported: Imported, inputs: dict[str, Any], store: Store, **options: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"limit_s": 30.0, "progress": lambda fraction, text: None}
    return run_reference(
        imported.result.files, inputs, store=store, operators=imported.operators, **{**defaults, **options}
    )


def test_the_reference_computes_the_imported_model(
    imported: Callable[[onnx.ModelProto], Imported], store: Store
) -> None:
    model = matmul()
    x = np.ones((2, 64), np.float32)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    told: list[float | None] = []
    outputs = reference(imported(model), {"x": x}, store, progress=lambda fraction, text: told.append(fraction))
    np.testing.assert_allclose(outputs["y"], x @ weights["w"] + weights["b"], rtol=1e-5)
    assert told == [0.5, 1.0]


def test_the_reference_can_be_stopped(imported: Callable[[onnx.ModelProto], Imported], store: Store) -> None:
    def stop(fraction: float | None, text: str) -> None:
        raise InterruptedRunError("stopped by request")

    with pytest.raises(InterruptedRunError):
        reference(imported(matmul()), {"x": np.ones((1, 64), np.float32)}, store, progress=stop)


def test_random_operators_are_not_compared(imported: Callable[[onnx.ModelProto], Imported], store: Store) -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"], seed=1.0)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    model = imported(model_of(helper.make_graph([node], "random", [x], [y])))
    with pytest.raises(NotComparableError, match=r"draws random numbers \(RandomNormalLike\)"):
        reference(model, {"x": np.ones(2, np.float32)}, store)


def test_a_fault_of_the_reference_is_no_fault_of_the_model(
    imported: Callable[[onnx.ModelProto], Imported], store: Store
) -> None:
    with pytest.raises(NotComparableError, match=r"the reference failed: \w+Error"):
        reference(imported(matmul()), {"x": np.ones((1, 3), np.float32)}, store)


# Samples ----------------------------------------------------------------------------------------------------------
def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def only(wanted: dict[str, tuple[int, ...]], tried: list[Any]) -> Callable[[Any], Any]:
    def run(inputs: Any) -> Any:
        tried.append({name: array.shape for name, array in inputs.items()})
        if tried[-1] != wanted:
            raise RunError("wrong shape")
        return {"y": 1}

    return run


@pytest.mark.parametrize(
    ("specs", "shapes"),
    [
        ([spec("x", "N", 3, "H", "W")], {"x": (1, 3, 64, 64)}),
        ([spec("x", "N", 3, "H", "W")], {"x": (1, 3, 32, 32)}),
        ([spec("x", "?", "?"), spec("state", 2, "?", 128), spec("sr", dtype="int64")],
         {"x": (1, 512), "state": (2, 1, 128), "sr": ()}),
        ([spec("x", 1, 2)], {"x": (1, 2)}),
    ],
)  # fmt: skip
def test_open_sizes_are_guessed_until_the_model_runs(
    specs: Sequence[TensorSpec], shapes: dict[str, tuple[int, ...]]
) -> None:
    tried: list[Any] = []
    inputs, outputs = fit_samples(specs, only(shapes, tried), seed=0, what="model 'm'")
    assert {name: array.shape for name, array in inputs.items()} == shapes
    assert outputs == {"y": 1}
    assert len(tried) == len({str(shape) for shape in tried})


def test_a_model_that_runs_with_no_guess_asks_for_a_shape() -> None:
    with pytest.raises(StepError, match="model 'm' does not run with inputs made for it: wrong shape") as error:
        fit_samples([spec("x", "N", "T")], only({}, []), seed=0, what="model 'm'")
    assert 'sample = { "x" = [N, T] }' in error.value.hint
    with pytest.raises(ModelError):
        fit_samples([spec("x", 2, dtype="complex64")], only({}, []), seed=0, what="model 'm'")


def test_stated_shapes() -> None:
    x = spec("x", "N", 3)
    assert shape_problem(x, [5, 3]) == ""
    assert "does not fit x: tensor(float32, [N, 3])" in shape_problem(x, [5, 4])
    assert shape_problem(x, [5]) != ""
    assert given_shapes([x, spec("z", "N")], {"x": (5, 3)}) == (spec("x", 5, 3), spec("z", "N"))
