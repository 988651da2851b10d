"""The operators beside recorded tensors of a real detector, and the detector's faces."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from sdkpack_vision.operators.detections import Nms
from sdkpack_vision.operators.pixels import Decode, ToTensor
from sdkpack_vision.operators.sizes import Resize
from sdkpack_vision.params import DecodeParams, NmsParams, ResizeParams, ToTensorParams

ROOT = Path(__file__).resolve().parents[3]
FACES = Path(os.environ.get("SDKPACK_TEST_MODELS", ROOT.parent / "shared" / "models")) / "face-ultralight"

pytestmark = pytest.mark.skipif(
    not FACES.is_dir(), reason=f"no test models in {FACES}; set SDKPACK_TEST_MODELS to their folder"
)


def preprocessed(name: str) -> tuple[np.ndarray, np.ndarray]:
    page = Decode(DecodeParams()).run((FACES / "images" / f"{name}.jpg").read_bytes())
    small, how = Resize(ResizeParams(width_px=320, height_px=240, convention="cv2.linear")).run(page)
    return ToTensor(ToTensorParams(scale=1.0, mean=127.0, std=128.0)).run(small), how


@pytest.mark.parametrize("name", ["1", "13", "19"])
def test_preprocessing_equals_what_was_recorded_with_opencv(name: str) -> None:
    with np.load(FACES / "ref" / f"onnx_version-RFB-320_{name}.npz") as recorded:
        expected = recorded["in/input"]
        assert "BGR2RGB" in json.loads(str(recorded["meta"]))["preprocessing"]
    ours, _ = preprocessed(name)
    difference = np.abs(ours - expected) * 128
    # Equal where it was measured; but OpenCV and Pillow each carry a libjpeg of their own, and other builds may round
    # a coefficient the other way.
    assert difference.max() <= 2.01
    assert (difference > 0.01).mean() <= 0.02


@pytest.mark.parametrize(("name", "count", "first"), [("13", 2, (91, 18, 155, 103)), ("19", 5, (606, 216, 678, 305))])
def test_faces_are_where_they_are(name: str, count: int, first: tuple[int, int, int, int]) -> None:
    _, how = preprocessed(name)
    with np.load(FACES / "ref" / f"onnx_version-RFB-320_{name}.npz") as recorded:
        scores, boxes = recorded["out/scores"], recorded["out/boxes"]
    params = NmsParams(score_threshold=0.7, iou_threshold=0.3, first_class=1, coordinates="unit")
    quads, best, classes = Nms(params).run(scores, boxes, how)
    assert len(quads) == count
    assert set(classes) == {1}
    assert best == sorted(best, reverse=True)
    assert quads[0][[0, 2]].ravel() == pytest.approx(first, abs=1)
