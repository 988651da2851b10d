"""Small networks of every kind: converted, evaluated by TensorFlow, and run in onnxruntime, must give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from plugins.tensorflow.tests.bench import error_of, load, run_many, run_onnx

SAVED = "sdkpack_tensorflow.saved_model:SavedModelConverter"
KERAS = "sdkpack_tensorflow.keras_model:KerasConverter"
HDF = "sdkpack_tensorflow.keras_model:HdfConverter"
LITE = "sdkpack_tensorflow.tflite:TfliteConverter"
RNG = np.random.default_rng(3)

WITH_REFERENCE = {
    "conv.keras": KERAS, "lstm.keras": KERAS, "gru.keras": KERAS, "attention.keras": KERAS, "multi.keras": KERAS,
    "sequence.keras": KERAS, "stateful.keras": KERAS, "old_conv.h5": HDF, "old_lstm.h5": HDF, "new_dense.h5": HDF,
}  # fmt: skip
FLOAT32 = "float32"
IMAGE = RNG.standard_normal((1, 17, 19, 16)).astype("f4")

# id -> (class, source, settings, inputs)
OTHERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "plain": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain"}]},
              {"x": RNG.standard_normal((5, 4)).astype("f4")}),
    "one output": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain", "outputs": ["z"]}]},
                   {"x": RNG.standard_normal((5, 4)).astype("f4")}),
    "fixed batch": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "plain"}],
                                   "inputs": [["x", FLOAT32, [3, 4]]], "opset": 15},
                    {"x": RNG.standard_normal((3, 4)).astype("f4")}),
    "open width": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "image"}],
                                  "inputs": [["image", FLOAT32, [1, 6, "W", 3]]]},
                   {"image": RNG.standard_normal((1, 6, 5, 3)).astype("f4")}),
    "as NCHW": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "image", "inputs_as_nchw": ["image"]}]},
                {"image": RNG.standard_normal((1, 3, 6, 7)).astype("f4")}),
    "a rank declared": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "anything"}],
                                       "inputs": [["x", FLOAT32, ["rows", 2]]]},
                        {"x": RNG.standard_normal((3, 2)).astype("f4")}),
    "leaves unknown operators out": (SAVED, "two", {"params": ["SavedModelParams", {"signature": "odd",
                                                                                  "outputs": ["ok"]}]},
                                     {"x": RNG.standard_normal((2, 4)).astype("f4")}),
    "two tags": (SAVED, "first", {"params": ["SavedModelParams", {"tags": ["tpu", "serve"]}]},
                 {"x": RNG.standard_normal((2, 2)).astype("f4")}),
    "keras as NCHW": (KERAS, "conv.keras", {"params": ["KerasParams", {"inputs_as_nchw": ["image"]}], "opset": 13},
                      {"image": RNG.standard_normal((2, 3, 17, 19)).astype("f4")}),
    "newest opset": (KERAS, "attention.keras", {"opset": 23}, {"tokens": RNG.standard_normal((1, 9, 16)).astype("f4")}),
    "built for training": (KERAS, "noisy.keras", {}, {"x": RNG.standard_normal((3, 8)).astype("f4")}),
    "built for training, Keras 2": (HDF, "old_noisy.h5", {}, {"x": RNG.standard_normal((3, 8)).astype("f4")}),
    "float.tflite": (LITE, "float.tflite", {"opset": 18}, {"image": IMAGE}),
    "dynamic.tflite": (LITE, "dynamic.tflite", {}, {"image": IMAGE}),
    "dynamic.tflite, opset 18": (LITE, "dynamic.tflite", {"opset": 18}, {"image": IMAGE}),
    "half.tflite": (LITE, "half.tflite", {}, {"image": IMAGE}),
    "tflite as NCHW": (LITE, "float.tflite", {"params": ["TfliteParams", {"inputs_as_nchw": ["image"]}]},
                       {"image": np.ascontiguousarray(IMAGE.transpose(0, 3, 1, 2))}),
    "signed.tflite": (LITE, "signed.tflite", {"params": ["TfliteParams", {"signature": "serving_default"}]},
                      {"pixels": RNG.standard_normal((2, 3)).astype("f4")}),
    "integer.tflite": (LITE, "integer.tflite", {}, {"image": RNG.integers(-128, 128, IMAGE.shape, np.int8)}),
    "mixed.tflite": (LITE, "mixed.tflite", {}, {"image": IMAGE}),
    "not rounded": (LITE, "dynamic.tflite", {"params": ["TfliteParams", {"dynamic_range": False}]}, {"image": IMAGE}),
}  # fmt: skip
INTEGERS = ("integer.tflite", "mixed.tflite")


@pytest.fixture(scope="module")
def answers(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("conversions")
    jobs = []
    cases = {name: (tool, name, {}, inputs_of(made, name)) for name, tool in WITH_REFERENCE.items()} | OTHERS
    for number, (name, (tool, source, settings, inputs)) in enumerate(cases.items()):
        settings = dict(settings)
        sample = folder / f"sample{number}.npz"
        np.savez(sample, **inputs)
        job = {"id": name, "load": tool, "source": str(made / source), "samples": [str(sample)] * 2, "tensors": True}
        jobs.append({**job, **settings})
    return run_many(folder, jobs)


def inputs_of(made: Path, name: str) -> dict[str, Any]:
    return {key[3:]: value for key, value in load(made / f"{name}.npz").items() if key.startswith("in/")}


def checked(answer: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The model, and what TensorFlow computes; twice, since a network that keeps a state would betray itself."""
    assert "error" not in answer, answer
    first, second = (load(Path(path)) for path in answer["outputs"])
    assert set(first) == set(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    return Path(answer["model"]), first


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_keras_networks_agree(answers: dict[str, Any], made: Path, name: str) -> None:
    model, evaluated = checked(answers[name])
    stored = load(made / f"{name}.npz")
    found = run_onnx(model, inputs_of(made, name))
    for index, output in enumerate(found):
        reference = stored[f"out/{index}"]
        assert error_of(evaluated[output], reference) <= 1e-6
        assert error_of(found[output], reference) <= 5e-6


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in (*INTEGERS, "not rounded")])
def test_other_networks_agree(answers: dict[str, Any], name: str) -> None:
    model, evaluated = checked(answers[name])
    for optimized in (True, False):
        found = run_onnx(model, OTHERS[name][3], optimized=optimized)
        for output, value in found.items():
            assert error_of(value, evaluated[output]) <= 5e-6


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_agree(answers: dict[str, Any], name: str) -> None:
    model, evaluated = checked(answers[name])
    found = run_onnx(model, OTHERS[name][3], optimized=False)
    for output, value in found.items():
        reference = evaluated[output]
        assert value.dtype == reference.dtype
        assert (value == reference).mean() >= 0.95
        # Forty outputs: a single one that is rounded the other way is 2.5 % of them.
        step = 1 if value.dtype == np.int8 else np.abs(reference).max() / 64
        assert np.abs(value.astype("f8") - reference.astype("f8")).max() <= step


@pytest.mark.parametrize("name", [*WITH_REFERENCE, *OTHERS])
def test_inner_tensors_are_what_their_names_say(answers: dict[str, Any], made: Path, name: str) -> None:
    """A name that stands for something else in the source would lead a search for the first difference astray."""
    if name == "not rounded":
        pytest.skip("it differs from its source, and says so")
    model, evaluated = checked(answers[name])
    outputs = {value.name for value in onnx.load(model).graph.output}
    inner = tuple(sorted(set(evaluated) - outputs))
    inputs = OTHERS[name][3] if name in OTHERS else inputs_of(made, name)
    found = run_onnx(model, inputs, optimized=False, tensors=inner)
    for tensor in inner:
        # A step of an 8-bit tensor is up to 1/127 of it.
        assert error_of(found[tensor], evaluated[tensor]) <= (0.05 if name in INTEGERS else 1e-5), tensor
    if name in ("conv.keras", "old_conv.h5", "float.tflite", "dynamic.tflite"):
        assert len(inner) >= 5


def shapes(answer: dict[str, Any]) -> dict[str, list[Any]]:
    graph = onnx.load(answer["model"]).graph
    return {
        value.name: [
            dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "?")
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.output)
    }


def test_names_and_open_dimensions_are_the_sources(answers: dict[str, Any]) -> None:
    assert shapes(answers["conv.keras"]) == {"image": ["N", 17, 19, 3], "scores": ["N", 4]}
    assert shapes(answers["gru.keras"]) == {"steps": ["N", 7, 5], "last": ["N", 4]}
    found = shapes(answers["multi.keras"])
    assert found == {"image": ["N", 8, 8, 3], "vector": ["N", 4], "out": ["N", 3], "gate": ["N", 2]}
    assert shapes(answers["plain"]) == {"x": ["N", 4], "y": ["N", 3], "z": ["N", 4]}
    assert shapes(answers["one output"]) == {"x": ["N", 4], "z": ["N", 4]}
    assert shapes(answers["fixed batch"]) == {"x": [3, 4], "y": [3, 3], "z": [3, 4]}
    assert shapes(answers["open width"]) == {"image": [1, 6, "W", 3], "features": [1, 6, "W", 3]}
    assert shapes(answers["as NCHW"]) == {"image": [1, 3, 6, "image_dim2"], "features": [1, 6, "image_dim2", 3]}
    assert shapes(answers["a rank declared"]) == {"x": ["rows", 2], "y": ["rows", 2]}
    assert shapes(answers["signed.tflite"]) == {"pixels": [2, 3], "twice": [2, 3], "sum": [2]}


def test_the_opset_is_what_targets_take(answers: dict[str, Any]) -> None:
    def opset(name: str) -> int:
        return int(onnx.load(answers[name]["model"]).opset_import[0].version)

    assert (opset("conv.keras"), opset("fixed batch"), opset("keras as NCHW")) == (17, 15, 13)
    assert opset("newest opset") == 18  # tf2onnx's newest


def test_the_author_is_told(answers: dict[str, Any]) -> None:
    def notes(name: str) -> str:
        return "\n".join(answers[name]["notes"])

    assert "input 'image' is NHWC, as in the source" in notes("conv.keras")
    assert "input 'image' is NCHW, where the source takes NHWC" in notes("as NCHW")
    assert "begins each run anew; kept its state from run to run: last" in notes("stateful.keras")
    assert "built with training=True, converted in inference mode: drop" in notes("built for training")
    assert "built with training=True, converted in inference mode: drop" in notes("built for training, Keras 2")
    assert "6 layers round their activations to 8 bits" in notes("dynamic.tflite")
    assert answers["old_conv.h5"]["tools"]["tf_keras"] == "2.21.0"


def test_layouts_stand_in_the_model(answers: dict[str, Any]) -> None:
    """In ONNX's own words, dimension denotations."""

    def words(name: str) -> list[str]:
        return [dim.denotation for dim in onnx.load(answers[name]["model"]).graph.input[0].type.tensor_type.shape.dim]

    assert words("conv.keras") == ["DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL"]
    assert words("keras as NCHW") == ["DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE"]
    assert words("plain") == ["", ""]


def test_the_rounding_is_what_makes_dynamic_range_agree(answers: dict[str, Any]) -> None:
    model, evaluated = checked(answers["not rounded"])
    (output,) = evaluated.keys() & run_onnx(model, {"image": IMAGE}).keys()
    assert 1e-3 <= error_of(run_onnx(model, {"image": IMAGE})[output], evaluated[output]) <= 5e-2
