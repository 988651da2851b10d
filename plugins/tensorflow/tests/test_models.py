"""Published models against the outputs that TensorFlow and LiteRT gave for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.tensorflow.tests.bench import MODELS, Bench, error_of, load, needs_models, run_onnx

pytestmark = needs_models

FLOAT = [
    ("tensorflow.saved-model", "basic-pitch/nmp", "basic-pitch/ref/tf_nmp.npz"),
    ("tensorflow.saved-model", "mlperf-tiny/kws/kws_ref_model", "mlperf-tiny/ref/tf_kws.npz"),
    ("tensorflow.h5", "mlperf-tiny/resnet8/pretrainedResnet.h5", "mlperf-tiny/ref/keras_resnet8.npz"),
    ("tensorflow.tflite", "basic-pitch/nmp.tflite", "basic-pitch/ref/tflite_nmp.npz"),
    ("tensorflow.tflite", "mlperf-tiny/kws/kws_ref_model_float32.tflite", "mlperf-tiny/ref/tflite_kws_float32.npz"),
    ("tensorflow.tflite", "mlperf-tiny/resnet8/pretrainedResnet.tflite", "mlperf-tiny/ref/tflite_resnet8_float.npz"),
    (
        "tensorflow.tflite",
        "face-ultralight/tflite/version-RFB-320_without_postprocessing.tflite",
        "face-ultralight/ref/tflite_version-RFB-320_*.npz",
    ),
    (
        "tensorflow.tflite",
        "face-ultralight/tflite/version-slim-320_without_postprocessing.tflite",
        "face-ultralight/ref/tflite_version-slim-320_*.npz",
    ),
]
INTEGER = [
    ("mlperf-tiny/kws/kws_ref_model.tflite", "mlperf-tiny/ref/tflite_kws_int8.npz"),
    ("mlperf-tiny/resnet8/pretrainedResnet_quant.tflite", "mlperf-tiny/ref/tflite_resnet8_int8.npz"),
    ("mobilenet-tflite/mobilenet_v1_0.25_128_quant.tflite", "mobilenet-tflite/ref/tflite_mobilenet_v1*.npz"),
    ("mobilenet-tflite/mobilenet_v2_1.0_224_quant.tflite", "mobilenet-tflite/ref/tflite_mobilenet_v2*.npz"),
]


def references(pattern: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found = []
    for path in sorted((MODELS / pattern).parent.glob(Path(pattern).name)):
        arrays = {name.replace("|", "/"): value for name, value in load(path).items() if name != "meta"}
        inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in/")}
        found.append((inputs, {name[4:]: value for name, value in arrays.items() if name.startswith("out/")}))
    assert found
    return found


def renamed(arrays: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The Keras reference calls its only tensors `input` and `output`."""
    return dict(zip(names, arrays.values(), strict=True)) if list(arrays) in (["input"], ["output"]) else arrays


@pytest.mark.parametrize(("converter", "source", "pattern"), FLOAT, ids=[source for _, source, _ in FLOAT])
def test_float_models_agree(bench: Bench, converter: str, source: str, pattern: str) -> None:
    converted = bench.convert(converter, MODELS / source)
    cases = references(pattern)
    names = ["input_1"], ["dense"]
    cases = [(renamed(inputs, names[0]), renamed(outputs, names[1])) for inputs, outputs in cases]
    answers = bench.evaluate(converter, converted, *(inputs for inputs, _ in cases))
    for (inputs, expected), answer in zip(cases, answers, strict=True):
        found = run_onnx(converted.model, inputs)
        if "nmp" in source:
            # The logarithm of a nearly silent band makes 4e-5 of another order of summation in the convolutions.
            plain = run_onnx(converted.model, inputs, optimized=False)
            assert max(error_of(plain[name], expected[name]) for name in expected) <= 1e-4
        assert set(found) == set(expected) == set(answer)
        for name, reference in expected.items():
            # Sums of float32 in another order.
            assert error_of(found[name], reference) <= 1e-5
            assert error_of(answer[name], reference) <= 1e-6


@pytest.mark.parametrize(("source", "pattern"), INTEGER, ids=[source for source, _ in INTEGER])
def test_integer_models_agree(bench: Bench, source: str, pattern: str) -> None:
    converted = bench.convert("tensorflow.tflite", MODELS / source)
    cases = references(pattern)
    answers = bench.evaluate("tensorflow.tflite", converted, *(inputs for inputs, _ in cases))
    for (inputs, expected), answer in zip(cases, answers, strict=True):
        for name, reference in expected.items():
            assert np.array_equal(answer[name], reference)
            # With integer kernels, and as it is written: floats between integers.
            for optimized, most in ((True, 4), (False, 8)):
                found = run_onnx(converted.model, inputs, optimized=optimized)[name]
                assert found.dtype == reference.dtype
                assert (found == reference).mean() >= 0.99
                # A half that is rounded the other way in an early layer is a few steps at the end.
                assert np.abs(found.astype(int) - reference.astype(int)).max() <= most
                assert found.argmax() == reference.argmax()


def test_averages_round_as_tflite_rounds_them(bench: Bench) -> None:
    """Numbers over the whole range: an average between two integers is one of 64 here, and would be made several steps
    of by the last layer. The sums before it are rounded by float32 scales on one side, by fixed point on the other."""
    converted = bench.convert("tensorflow.tflite", MODELS / "mlperf-tiny/resnet8/pretrainedResnet_quant.tflite")
    rng = np.random.default_rng(0)
    samples = [{"input_1_int8": rng.integers(-128, 128, (1, 32, 32, 3), dtype=np.int8)} for _ in range(20)]
    answers = bench.evaluate("tensorflow.tflite", converted, *samples)
    pairs = [
        (run_onnx(converted.model, inputs)["Identity_int8"].astype(int), answer["Identity_int8"].astype(int))
        for inputs, answer in zip(samples, answers, strict=True)
    ]
    # 0.95 as measured; 0.905 where averages are rounded half to even.
    assert np.mean([found == expected for found, expected in pairs]) >= 0.93
