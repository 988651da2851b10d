"""Published models against the outputs that OpenCV's own Caffe reader gave for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams

MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", Path(__file__).parents[3].parent / "shared" / "models"))

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder"
)

CASES = [
    ("squeezenet_v1.0-dc-caffe/SqueezeNet_deploy", "squeezenet_v1.0-dc-caffe/SqueezeNet_v1.0_decoded", "caffe_*"),
    ("mtcnn-caffe/det1", "mtcnn-caffe/det1", "caffe_det1"),
    ("mtcnn-caffe/det2", "mtcnn-caffe/det2", "caffe_det2"),
    ("mtcnn-caffe/det3", "mtcnn-caffe/det3", "caffe_det3"),
    ("face-ultralight/caffe/RFB-320", "face-ultralight/caffe/RFB-320", "../ref/caffe_RFB*"),
    ("face-ultralight/caffe/slim-320", "face-ultralight/caffe/slim-320", "../ref/caffe_slim*"),
]


def references(prototxt: str, pattern: str) -> list[Path]:
    folder = (MODELS / prototxt).parent
    found = (folder / pattern).parent.resolve() if pattern.startswith("..") else folder / "ref"
    return sorted(found.glob(f"{Path(pattern).name}.npz"))


@pytest.mark.parametrize(("prototxt", "caffemodel", "pattern"), CASES, ids=[case[0] for case in CASES])
def test_agrees_with_the_stored_outputs(prototxt: str, caffemodel: str, pattern: str) -> None:
    paths = references(prototxt, pattern)
    assert paths
    for path in paths:
        with np.load(path, allow_pickle=False) as stored:
            inputs = {name[3:]: stored[name] for name in stored.files if name.startswith("in/")}
            expected = {name[4:]: stored[name] for name in stored.files if name.startswith("out/")}
        shapes: dict[str, Any] = {name: array.shape for name, array in inputs.items()}
        found = run(MODELS / f"{prototxt}.prototxt", MODELS / f"{caffemodel}.caffemodel", shapes, inputs)
        assert set(found) == set(expected)
        for name, reference in expected.items():
            # The face detector's reference was stored in rows; Caffe's own blob is the same values in one row.
            error = np.abs(found[name].reshape(reference.shape) - reference).max() / np.abs(reference).max()
            # Sums of float32 in another order over up to 60 layers.
            assert error <= 1e-5, (name, error)


def run(prototxt: Path, caffemodel: Path, shapes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    import onnxruntime

    content, _ = convert_network(prototxt, caffemodel, CaffeParams(shapes=shapes))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_a_fully_convolutional_network_takes_any_size() -> None:
    """MTCNN's first stage: its prototxt says 12 x 12, its users feed a pyramid of sizes."""
    with np.load(MODELS / "mtcnn-caffe" / "ref" / "caffe_det1.npz", allow_pickle=False) as stored:
        inputs = {"data": stored["in/data"]}
        expected = {name: stored[f"out/{name}"] for name in ("conv4-2", "prob1")}
    shapes = {"data": ("N", 3, "H", "W")}
    found = run(MODELS / "mtcnn-caffe/det1.prototxt", MODELS / "mtcnn-caffe/det1.caffemodel", shapes, inputs)
    for name, reference in expected.items():
        assert np.abs(found[name] - reference).max() <= 1e-5 * np.abs(reference).max()
