"""The layers of the SSD fork against their definitions, box by box, and a small detector against OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plugins.caffe.tests import definitions as d
from plugins.caffe.tests.nets import error, inputs_text, run, run_opencv

PRIORS = [
    ("min_size: 30 aspect_ratio: 2", {"smallest": [30], "largest": [], "ratios": [2], "variance": [0.1] * 4}),
    ("min_size: 30.9 max_size: 60.9 aspect_ratio: 2 aspect_ratio: 3 clip: true variance: [0.1, 0.1, 0.2, 0.2]",
     {"smallest": [30], "largest": [60], "ratios": [2, 3], "variance": [0.1, 0.1, 0.2, 0.2], "clip": True}),
    (
        "min_size: 20 max_size: 40 aspect_ratio: 2 flip: true clip: false variance: 0.2",
        {"smallest": [20], "largest": [40], "ratios": [2], "variance": [0.2] * 4},
    ),
    ("min_size: [8, 16] max_size: [12, 30] aspect_ratio: [1, 2, 2] step: 16 offset: 0.25 variance: 0.3",
     {"smallest": [8, 16], "largest": [12, 30], "ratios": [2], "variance": [0.3] * 4, "step": 16, "offset": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "facts"), PRIORS, ids=["plain", "clipped", "opencv", "stepped"])
def test_prior_boxes(settings: str, facts: dict[str, Any], tmp_path: Path) -> None:
    bottoms = 'bottom: "in0" bottom: "in1"'
    text = inputs_text([(1, 2, 3, 5), (1, 3, 60, 80)]) + (
        f'layer {{ name: "it" type: "PriorBox" {bottoms} top: "out0" prior_box_param {{ {settings} }} }}'
    )
    inputs = {"in0": np.zeros((1, 2, 3, 5), "f4"), "in1": np.zeros((1, 3, 60, 80), "f4")}
    found = run(tmp_path, text, {}, inputs)["out0"]
    expected = d.priors((3, 5), (60, 80), **facts)
    # Values up to 1 in float32.
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6
    if "clip: false" in settings:
        # Others differ in OpenCV: it clips where nothing is said, and keeps parts of pixels in sizes.
        assert np.abs(run_opencv(tmp_path, inputs).reshape(found.shape) - found).max() <= 1e-6


def scene(batch: int, boxes: int, classes: int, sets: int, seed: int = 3) -> tuple[Any, Any, Any]:
    """Offsets, scores and priors with overlapping boxes."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.25, 0.75, (boxes, 2))
    halves = rng.uniform(0.05, 0.2, (boxes, 2))
    prior = np.stack(
        [np.concatenate([centres - halves, centres + halves], 1).ravel(), np.tile([0.1, 0.1, 0.2, 0.2], boxes)]
    )
    loc = 0.3 * rng.standard_normal((batch, boxes * sets * 4))
    conf = d.softmax(2 * rng.standard_normal((batch, boxes, classes)), 2).reshape(batch, -1)
    return loc.astype("f4"), conf.astype("f4"), prior[None].astype("f4")


SETTINGS = [
    ("CENTER_SIZE", {"threshold": 0.3, "top": 20, "keep": 10, "nms": 0.4}),
    ("CENTER_SIZE", {"threshold": 0.05, "top": -1, "keep": -1, "nms": 0.45}),
    ("CENTER_SIZE", {"threshold": 0.1, "top": 5, "keep": -1, "nms": 0.2, "shared": False}),
    ("CORNER", {"threshold": 0.3, "top": 30, "keep": 7, "nms": 0.3}),
    ("CORNER_SIZE", {"threshold": 0.3, "top": 30, "keep": 200, "nms": 0.3, "encoded": True}),
    ("CENTER_SIZE", {"threshold": 0.9999, "top": 30, "keep": 7, "nms": 0.3}),
]


def output_layer(code: str, facts: dict[str, Any]) -> str:
    more = f"top_k: {facts['top']}" if facts["top"] > 0 else ""
    shared = "" if facts.get("shared", True) else "share_location: false"
    encoded = "variance_encoded_in_target: true" if facts.get("encoded") else ""
    return (
        'layer { name: "it" type: "DetectionOutput" bottom: "in0" bottom: "in1" bottom: "in2" top: "out0" '
        f"detection_output_param {{ num_classes: 4 {shared} {encoded} code_type: {code} keep_top_k: {facts['keep']} "
        f"confidence_threshold: {facts['threshold']} nms_param {{ nms_threshold: {facts['nms']} {more} }} }} }}"
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("code", "facts"), SETTINGS)
def test_detections(code: str, facts: dict[str, Any], batch: int, tmp_path: Path) -> None:
    values = scene(batch, 40, 4, 1 if facts.get("shared", True) else 4)
    named = {f"in{at}": value for at, value in enumerate(values)}
    found = run(tmp_path, inputs_text([v.shape for v in values]) + output_layer(code, facts), {}, named)["out0"]
    expected = d.detections(*(value.astype("f8") for value in values), 4, code=code, **facts)
    assert len(found[0, 0]) == (batch if facts["threshold"] > 0.99 else len(expected[0, 0]))
    assert error(found, expected) <= 1e-6


DETECTOR = inputs_text([(1, 3, 32, 32)]) + "".join(
    """
layer { name: "c" type: "Convolution" bottom: "in0" top: "c" convolution_param { num_output: 8 kernel_size: 3 stride: 4
  pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "loc" type: "Convolution" bottom: "c" top: "loc" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "lp" type: "Permute" bottom: "loc" top: "lp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "lf" type: "Flatten" bottom: "lp" top: "lf" }
layer { name: "conf" type: "Convolution" bottom: "c" top: "conf" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "cp" type: "Permute" bottom: "conf" top: "cp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "cr" type: "Reshape" bottom: "cp" top: "cr" reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "cs" type: "Softmax" bottom: "cr" top: "cs" softmax_param { axis: 2 } }
layer { name: "cf" type: "Flatten" bottom: "cs" top: "cf" }
layer { name: "p" type: "PriorBox" bottom: "c" bottom: "in0" top: "p" prior_box_param { min_size: 8 max_size: 14
  clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "out" type: "DetectionOutput" bottom: "lf" bottom: "cf" bottom: "p" top: "out" detection_output_param {
  num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 20
  confidence_threshold: 0.3 nms_param { nms_threshold: 0.4 top_k: 50 } } }
""".splitlines(keepends=True)
)


def test_a_detector_finds_what_opencv_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shapes = {"c": ((8, 3, 3, 3), (8,)), "loc": ((8, 8, 1, 1), (8,)), "conf": ((6, 8, 1, 1), (6,))}
    blobs = {name: [rng.standard_normal(s).astype("f4") * 0.5 for s in own] for name, own in shapes.items()}
    x = {"in0": rng.standard_normal((1, 3, 32, 32)).astype("f4")}
    found = run(tmp_path, DETECTOR, blobs, x)["out"]
    theirs = run_opencv(tmp_path, x)
    # OpenCV fills up with rows of zeros; both order by class and falling score.
    theirs = theirs[:, :, theirs[0, 0, :, 2] > 0]
    assert len(found[0, 0]) > 5
    assert error(found, theirs) <= 1e-5
