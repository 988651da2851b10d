"""Whole networks: published Caffe models there and back again, and ONNX models that never were in Caffe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams

from plugins.caffe.tests.nets import error, run_onnx
from plugins.caffe.tests.onnx_nets import OPENCV, back, layer_types, model, opencv, written
from plugins.caffe.tests.test_models import CASES, MODELS, references

published = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder"
)
N = helper.make_node


def stored(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        inputs = {name[3:]: arrays[name] for name in arrays.files if name.startswith("in/")}
        outputs = {name[4:]: arrays[name] for name in arrays.files if name.startswith("out/")}
    return inputs, outputs


@published
@pytest.mark.parametrize(("prototxt", "caffemodel", "pattern"), CASES, ids=[case[0] for case in CASES])
def test_caffe_to_onnx_and_back(prototxt: str, caffemodel: str, pattern: str, tmp_path: Path) -> None:
    """Caffe -> ONNX -> Caffe -> ONNX, and the written files in OpenCV, all against the stored outputs."""
    inputs, expected = stored(references(prototxt, pattern)[0])
    shapes: Any = {name: array.shape for name, array in inputs.items()}
    first, _ = convert_network(
        MODELS / f"{prototxt}.prototxt", MODELS / f"{caffemodel}.caffemodel", CaffeParams(shapes=shapes)
    )
    written(tmp_path, first)
    again = back(tmp_path, inputs)
    direct = run_onnx(first, inputs)
    theirs = opencv(tmp_path, inputs, list(direct))
    assert set(again) == set(direct) == set(expected)
    for name, result in zip(direct, theirs, strict=True):
        assert error(again[name], direct[name]) <= 1e-6, name
        # The detectors' references were stored in rows; Caffe's own blobs are the same values in one row.
        reference = expected[name].reshape(direct[name].shape)
        assert error(again[name], reference) <= 1e-5, name
        assert error(result.reshape(reference.shape), reference) <= 1e-5, name


@published
@pytest.mark.parametrize("post", ["", "_without_postprocessing"])
@pytest.mark.parametrize("net", ["RFB", "slim"])
def test_a_detector_that_was_exported_from_pytorch(net: str, post: str, tmp_path: Path) -> None:
    """Opset 9, batch norms unfused, shape arithmetic, and boxes that are decoded in the graph."""
    path = MODELS / "face-ultralight" / "onnx" / f"version-{net}-320{post}.onnx"
    image, _ = stored(references("face-ultralight/caffe/RFB-320", f"../ref/caffe_{net}*")[0])
    content = path.read_bytes()
    expected = run_onnx(content, image)
    found = written(tmp_path, content, **OPENCV)
    results = back(tmp_path, image)
    assert list(results) == list(expected)
    for (name, array), theirs in zip(expected.items(), opencv(tmp_path, image, list(expected)), strict=True):
        assert error(results[name], array) <= 1e-5, name
        assert error(theirs.reshape(array.shape), array) <= 1e-5, name
    assert {"BatchNorm", "Permute", "Softmax"} <= set(layer_types(found))


@published
def test_a_note_transcriber_that_was_exported_from_tensorflow(tmp_path: Path) -> None:
    """Names with colons, an open batch, one-dimensional signals, mirrored padding, comparisons and choices."""
    content = (MODELS / "basic-pitch" / "nmp.onnx").read_bytes()
    name = "serving_default_input_2:0"
    x = 0.1 * np.random.default_rng(0).standard_normal((1, 43844, 1)).astype("f4")
    found = written(tmp_path, content, shapes={name: x.shape})
    assert "input 'serving_default_input_2:0' is called 'serving_default_input_2_0'" in found.notes
    expected = run_onnx(content, {name: x})
    results = back(tmp_path, {name.replace(":", "_"): x})
    for (output, array), result in zip(expected.items(), results.values(), strict=True):
        assert error(result, array) <= 1e-5, output


class Weights:
    """Initializers with seeded values, collected as a network is written down."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.arrays: dict[str, Any] = {}
        self.nodes: list[Any] = []

    def put(self, *shape: int, scale: float = 1.0, positive: bool = False) -> str:
        name = f"w{len(self.arrays)}"
        values = self.rng.standard_normal(shape) * scale
        self.arrays[name] = (np.abs(values) + 0.5 if positive else values).astype("f4")
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(N(op, list(inputs), [name], **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, size: int, group: int = 1, **more: Any) -> str:
        weights = self.put(outputs, inputs // group, size, size, scale=1.4 / (size * (inputs // group) ** 0.5))
        return self.node("Conv", x, weights, group=group, **more)

    def norm(self, x: str, channels: int) -> str:
        parts = [self.put(channels, positive=kind in (0, 3)) for kind in range(4)]
        return self.node("BatchNormalization", x, *parts)


def mobilenet(w: Weights) -> str:
    """Inverted residuals with ReLU6, squeeze and excitation with hard swish, uneven padding as TensorFlow has it."""
    low, high = "low", "high"
    w.arrays |= {low: np.float32(0), high: np.float32(6)}
    x = w.norm(w.conv("image", 3, 8, 3, strides=[2, 2], pads=[0, 0, 1, 1]), 8)
    x = w.node("Clip", x, low, high)
    for stride in (1, 2):
        h = w.node("Clip", w.norm(w.conv(x, 8, 24, 1), 24), low, high)
        pads = [1, 1, 1, 1] if stride == 1 else [0, 0, 1, 1]
        h = w.node("HardSwish", w.norm(w.conv(h, 24, 24, 3, 24, strides=[stride] * 2, pads=pads), 24))
        s = w.node("GlobalAveragePool", h)
        s = w.node("Relu", w.conv(s, 24, 6, 1))
        h = w.node("Mul", h, w.node("HardSigmoid", w.conv(s, 6, 24, 1), alpha=1 / 6))
        h = w.norm(w.conv(h, 24, 8, 1), 8)
        x = w.node("Add", x, h) if stride == 1 else h
    x = w.node("Flatten", w.node("GlobalAveragePool", x))
    return w.node("Softmax", w.node("Gemm", x, w.put(5, 8), w.put(5), transB=1), axis=1)


def resnet(w: Weights) -> str:
    """The stem whose pooling rounds downwards, a block with a projection, a dense head."""
    x = w.node("Relu", w.norm(w.conv("image", 3, 8, 7, strides=[2, 2], pads=[3, 3, 3, 3]), 8))
    x = w.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    h = w.node("Relu", w.norm(w.conv(x, 8, 16, 3, strides=[2, 2], pads=[1, 1, 1, 1]), 16))
    h = w.norm(w.conv(h, 16, 16, 3, pads=[1, 1, 1, 1]), 16)
    x = w.node("Relu", w.node("Add", h, w.norm(w.conv(x, 8, 16, 1, strides=[2, 2]), 16)))
    return w.node("Gemm", w.node("Flatten", w.node("GlobalAveragePool", x)), w.put(16, 7), w.put(7))


def unet(w: Weights) -> str:
    """Down, up by nearest, by transposed convolution and bilinearly, with skips; a prelu and a sigmoid."""
    first = w.node("Relu", w.conv("image", 3, 8, 3, pads=[1, 1, 1, 1]))
    low = w.node("PRelu", w.conv(w.node("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2]), 8, 12, 3,
                                 pads=[1, 1, 1, 1]), w.put(12, 1, 1))  # fmt: skip
    w.arrays["twice"] = np.array([1, 1, 2, 2], "f4")
    up = [w.node("Resize", low, "", "twice", mode="nearest"),
          w.node("Resize", low, "", "twice", mode="linear"),
          w.node("ConvTranspose", low, w.put(12, 6, 2, 2, scale=0.3), strides=[2, 2])]  # fmt: skip
    joined = w.node("Concat", *up, first, axis=1)
    return w.node("Sigmoid", w.conv(joined, 38, 2, 1))


@pytest.mark.parametrize("net", [mobilenet, resnet, unet], ids=lambda net: net.__name__)
def test_networks_that_never_were_in_caffe(net: Any, tmp_path: Path) -> None:
    weights = Weights(7)
    output = net(weights)
    content = model(weights.nodes, {"image": (1, 3, 64, 48)}, [output], weights.arrays, opset=14)
    x = {"image": np.random.default_rng(3).standard_normal((1, 3, 64, 48)).astype("f4")}
    expected = run_onnx(content, x)[output]
    for settings in ({}, OPENCV, {**OPENCV, "floor_pooling": "slice"}):
        written(tmp_path, content, **settings)
        assert error(back(tmp_path, x)[output], expected) <= 1e-5
        if settings:
            assert error(opencv(tmp_path, x, [output])[0].reshape(expected.shape), expected) <= 1e-5
