"""What a manifest's parts say of each other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sdkpack.documents import Manifest
from sdkpack.documents.manifest import TensorEntry
from sdkpack.errors import DocumentError
from sdkpack.types import Quantization, TensorSpec

TENSOR = {"name": "x", "dtype": "float32", "shape": [1, "N"]}
PART = {"runtime": "acme.npu2", "files": {"graph": "m/a.onnx"}, "inputs": [TENSOR], "outputs": [TENSOR]}
MANIFEST: dict[str, Any] = {
    "manifest": 1,
    "name": "a",
    "version": "1",
    "sequence": 0,
    "models": {
        "net": {
            "inputs": [TENSOR],
            "outputs": [TENSOR],
            "source": {"reference": "n", "digest": "sha256:" + "0" * 64, "size_bytes": 1, "format": "onnx"},
            "variants": [{"target": "cpu", "parts": [PART]}, {"target": "npu", "parts": [PART]}],
            "golden": {"inputs": "g/in.npz", "outputs": "g/out.npz", "tolerance": 0.1},
        }
    },
    "pipelines": {
        "read": {
            "inputs": {"image": "image"},
            "outputs": {"y": {"value": "y", "type": "any"}},
            "steps": [
                {"id": "a", "model": "net", "inputs": {"x": "image"}, "outputs": {"x": "t"}},
                {
                    "id": "b",
                    "op": "scores.top_k/1",
                    "inputs": {"x": "t"},
                    "outputs": {"y": "y"},
                    "params": {"labels": {"asset": "assets/labels.txt"}, "more": [{"deep": {"asset": "assets/b"}}]},
                },
            ],
        }
    },
    "goldens": {"read": [{"inputs": {"image": "g/i.png"}, "outputs": "g/o.json", "tolerance": 0.1}]},
    "notices": [{"title": "t", "file": "n/LICENSE"}, {"title": "u"}],
}


def net(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["models"]["net"]
    return found


def test_every_file_that_it_names() -> None:
    assert Manifest.from_object(MANIFEST).files() == {
        "m/a.onnx", "g/in.npz", "g/out.npz", "g/i.png", "g/o.json", "assets/labels.txt", "assets/b", "n/LICENSE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda m: net(m)["variants"][1].update(target="cpu"),
            "models.net.variants[1].target: another variant has this target, got cpu",
        ),
        (
            lambda m: m["pipelines"]["read"]["steps"][0].update(model="nett"),
            "pipelines.read.steps[0].model: no such model, got 'nett' (did you mean 'net'?)",
        ),
        (
            lambda m: m["pipelines"]["read"]["steps"][1].update(id="a"),
            "pipelines.read.steps[0].id: another step has this id, got 'a'",
        ),
        (
            lambda m: m["goldens"].update(raed=m["goldens"].pop("read")),
            "goldens.raed: no such pipeline, got 'raed' (did you mean 'read'?)",
        ),
        (
            lambda m: m["goldens"]["read"][0].update(inputs={"img": "g/i.png"}),
            "goldens.read[0].inputs: not the pipeline's inputs, expected image, got img",
        ),
        (
            lambda m: m["pipelines"].update(net=m["pipelines"]["read"]),
            "pipelines.net: a model has this name too (rename one of them)",
        ),
        (
            lambda m: m["pipelines"]["read"]["inputs"].update(trace="any"),
            "pipelines.read.inputs.trace: this name is taken, expected none of deadline_s, params, trace, until, _",
        ),
        (
            lambda m: net(m)["inputs"][0].update(dtype="float23"),
            "models.net.inputs[0].dtype: unknown element type, got 'float23' (did you mean 'float32'?)",
        ),
        (lambda m: net(m)["inputs"][0].update(shape=[-1]), "models.net.inputs[0].shape: a size is negative, got -1"),
        (
            lambda m: net(m)["inputs"][0].update(quant={"scale": [1.0, 2.0], "zero_point": [0]}),
            "models.net.inputs[0].quant: 2 scales and 1 zero points",
        ),
        (
            lambda m: net(m)["inputs"][0].update(quant={"scale": [1.0, 2.0], "zero_point": [0, 0]}),
            "models.net.inputs[0].quant: 2 scales without an axis",
        ),
        (
            lambda m: net(m)["golden"].update(tolerance=-0.5),
            "models.net.golden.tolerance: out of bounds, expected at least 0.0, got -0.5",
        ),
        (
            lambda m: net(m)["inputs"][0].update(shape=[1.5]),
            "models.net.inputs[0].shape[0]: wrong type, expected a whole number or text, got 1.5",
        ),
    ],
)
def test_what_does_not_fit_together(change: Callable[[dict[str, Any]], None], told: str) -> None:
    value = copy.deepcopy(MANIFEST)
    change(value)
    with pytest.raises(DocumentError) as caught:
        Manifest.from_object(value)
    assert str(caught.value.problems[0]) == told


def test_several_findings_of_one_check_come_together() -> None:
    value = copy.deepcopy(MANIFEST)
    value["pipelines"]["read"]["steps"][0]["model"] = "other"
    value["pipelines"]["net"] = copy.deepcopy(value["pipelines"]["read"])
    value["goldens"]["none"] = []
    with pytest.raises(DocumentError) as caught:
        Manifest.from_object(value)
    assert [problem.path for problem in caught.value.problems] == [
        "pipelines.net", "pipelines.read.steps[0].model", "pipelines.net.steps[0].model", "goldens.none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "quant",
    [None, Quantization(scale=(0.5,), zero_point=(3,)), Quantization(scale=(1.0, 2.0), zero_point=(0, 1), axis=1)],
)
def test_tensor_specs_pass_through(quant: Quantization | None) -> None:
    spec = TensorSpec(name="x", dtype="int8", shape=(1, "N", "?"), layout="NCW", quant=quant)
    assert TensorEntry.of(spec).spec() == spec
    assert TensorEntry.from_object(TensorEntry.of(spec).to_object()).spec() == spec
