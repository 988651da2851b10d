"""Several operators that are one layer, and networks that came from Caffe: there and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams
from sdkpack_caffe.writer.patterns import PATTERNS

from plugins.caffe.tests import test_layers
from plugins.caffe.tests.nets import error, inputs_text, run_onnx, write
from plugins.caffe.tests.onnx_nets import BOOL, INT64, back, layer_types, model, opencv, reference, written
from plugins.caffe.tests.test_detectors import DETECTOR, SETTINGS, output_layer, scene
from sdkpack.errors import ModelError

N = helper.make_node
IMAGE = (2, 4, 6, 8)
RNG = np.random.default_rng(11)
X = {"x": RNG.standard_normal(IMAGE).astype("f4")}


def agrees(folder: Path, content: bytes, inputs: dict[str, Any], layers: str = "", tolerance: float = 2e-6) -> None:
    expected = run_onnx(content, inputs)
    found = written(folder, content)
    if layers:
        assert layer_types(found) == layers.split()
    results = back(folder, inputs)
    assert set(results) == set(expected)
    for name, array in expected.items():
        assert error(results[name], array.astype("f4")) <= tolerance, name


@pytest.mark.parametrize("case", test_layers.CASES, ids=str)
def test_every_layer_comes_back(case: test_layers.Case, tmp_path: Path) -> None:
    """Caffe -> ONNX -> Caffe -> ONNX."""
    inputs, blobs = test_layers.arrays(case)
    bottoms = "".join(f'bottom: "in{at}" ' for at in range(len(inputs)))
    tops = "".join(f'top: "out{at}" ' for at in range(case.tops))
    text = inputs_text(case.inputs) + f'layer {{ name: "it" type: "{case.kind}" {bottoms}{tops}{case.settings} }}\n'
    named = {f"in{at}": array for at, array in enumerate(inputs)}
    first, _ = convert_network(*write(tmp_path, text, {"it": blobs}), CaffeParams())
    found = written(tmp_path, first)
    results = back(tmp_path, named)
    expected = run_onnx(first, named)
    assert list(results) == list(expected)
    for name, array in expected.items():
        # The same operators again, in most cases to the bit.
        assert error(results[name], array) <= 1e-6
    again, _ = convert_network(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", CaffeParams())
    assert layer_types(written(tmp_path, again)) == layer_types(found)


def test_every_pattern_is_looked_for() -> None:
    """The joined operators, each seen in a layer that came back as itself."""
    kinds = {case.kind for case in test_layers.CASES}
    assert {"BNLL", "Pooling", "MVN", "BatchNorm", "Normalize", "LRN", "ArgMax"} <= kinds
    assert len(PATTERNS) == 8


@pytest.mark.parametrize(
    ("kind", "settings", "shape", "blobs"),
    [
        ("BNLL", "", (2, 4, 6, 8), []),
        ("LRN", "lrn_param { local_size: 3 alpha: 0.4 norm_region: WITHIN_CHANNEL }", (2, 4, 6, 8), []),
        ("MVN", "mvn_param { across_channels: true eps: 0.1 }", (2, 4, 6, 8), []),
        ("MVN", "mvn_param { normalize_variance: false }", (2, 4, 6, 8), []),
        ("BatchNorm", "batch_norm_param { use_global_stats: false }", (2, 4, 6, 8), [(4,), (4,), (1,)]),
        ("Normalize", "norm_param { across_spatial: false channel_shared: false }", (2, 4, 6, 8), [(4,)]),
        ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", (2, 4, 6, 8), []),
        ("ArgMax", "argmax_param { axis: 1 top_k: 2 }", (2, 4, 6, 8), []),
    ],
)
def test_a_layer_of_many_operators_comes_back_as_one(
    kind: str, settings: str, shape: tuple[int, ...], blobs: list[tuple[int, ...]], tmp_path: Path
) -> None:
    text = inputs_text([shape]) + f'layer {{ name: "it" type: "{kind}" bottom: "in0" top: "it" {settings} }}\n'
    weights = [np.abs(RNG.standard_normal(size)).astype("f4") + 0.5 for size in blobs]
    content, _ = convert_network(*write(tmp_path, text, {"it": weights}), CaffeParams())
    assert layer_types(written(tmp_path, content)) == [kind]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("code", "facts"), SETTINGS)
def test_detections_come_back(code: str, facts: dict[str, Any], batch: int, tmp_path: Path) -> None:
    """DetectionOutput as the reader writes it out, its priors a constant as those of PriorBox layers are."""
    loc, conf, prior = scene(batch, 40, 4, 1 if facts.get("shared", True) else 4)
    text = inputs_text([loc.shape, conf.shape, prior.shape]) + output_layer(code, facts)
    content, _ = convert_network(*write(tmp_path, text, {}), CaffeParams())
    loaded = onnx.load_from_string(content)
    fixed = next(value for value in loaded.graph.input if value.name == "in2")
    loaded.graph.input.remove(fixed)
    loaded.graph.initializer.append(onnx.numpy_helper.from_array(prior, "in2"))
    content = loaded.SerializeToString()
    inputs = {"in0": loc, "in1": conf}
    found = written(tmp_path, content)
    assert layer_types(found) == ["Reshape", "Power", "Pooling", "InnerProduct", "Reshape", "DetectionOutput"]
    expected, results = run_onnx(content, inputs)["out0"], back(tmp_path, inputs)["out0"]
    assert error(results, expected) <= 1e-6


def test_a_whole_detector_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shapes = {"c": ((8, 3, 3, 3), (8,)), "loc": ((8, 8, 1, 1), (8,)), "conf": ((6, 8, 1, 1), (6,))}
    blobs = {name: [rng.standard_normal(s).astype("f4") * 0.5 for s in own] for name, own in shapes.items()}
    x = {"in0": rng.standard_normal((1, 3, 32, 32)).astype("f4")}
    content, _ = convert_network(*write(tmp_path, DETECTOR, blobs), CaffeParams())
    expected = run_onnx(content, x)["out"]
    assert "DetectionOutput" in layer_types(written(tmp_path, content))
    assert len(expected[0, 0]) > 5
    assert error(back(tmp_path, x)["out"], expected) <= 1e-6
    theirs = opencv(tmp_path, x, ["out"])[0]
    assert error(theirs[:, :, theirs[0, 0, :, 2] > 0], expected) <= 1e-5


def test_detections_with_a_change_are_refused(tmp_path: Path) -> None:
    """Another operator among the thirty: it is no DetectionOutput, and suppression has no layer."""
    rng = np.random.default_rng(5)
    shapes = {"c": ((8, 3, 3, 3), (8,)), "loc": ((8, 8, 1, 1), (8,)), "conf": ((6, 8, 1, 1), (6,))}
    blobs = {name: [rng.standard_normal(s).astype("f4") for s in own] for name, own in shapes.items()}
    content, _ = convert_network(*write(tmp_path, DETECTOR, blobs), CaffeParams())
    loaded = onnx.load_from_string(content)
    next(node for node in loaded.graph.node if node.op_type == "Exp").op_type = "Softplus"
    with pytest.raises(ModelError, match="NonMaxSuppression"):
        written(tmp_path, loaded.SerializeToString())


def test_choices_are_written(tmp_path: Path) -> None:
    """Greater, Less, And, Or, Not and Where: truth values are floats in Caffe."""
    nodes = [
        N("Greater", ["x", "low"], ["above"]), N("Less", ["x", "high"], ["below"]),
        N("And", ["above", "below"], ["within"]), N("Not", ["above"], ["under"]),
        N("Or", ["within", "under"], ["either"]), N("Where", ["either", "x", "high"], ["y"]),
        N("Cast", ["within"], ["z"], to=1),
    ]  # fmt: skip
    content = model(nodes, {"x": IMAGE}, ["y", "z"], {"low": np.float32(-0.3), "high": np.float32(0.4)})
    agrees(tmp_path, content, X)


def test_a_truth_value_may_be_an_output(tmp_path: Path) -> None:
    content = model([N("Greater", ["x", "low"], ["y"])], {"x": IMAGE}, ["y"], {"low": np.float32(0)}, types={"y": BOOL})
    agrees(tmp_path, content, X, "Threshold")
    assert written(tmp_path, content).notes == ("output 'y' is float32 in Caffe, as everything is there",)


def test_places_of_maxima_go_back(tmp_path: Path) -> None:
    """SegNet: MaxPool with places, then MaxUnpool."""
    nodes = [
        N("MaxPool", ["x"], ["h", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        N("Relu", ["h"], ["r"]),
        N("MaxUnpool", ["r", "places"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    agrees(tmp_path, model(nodes, {"x": IMAGE}, ["y"]), X, "Pooling ReLU Upsample")


def test_places_within_planes_are_scattered(tmp_path: Path) -> None:
    nodes = [
        N("MaxPool", ["x"], ["h", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        N("Mod", ["places", "plane"], ["inside"]), N("Reshape", ["inside", "flat"], ["at"]),
        N("Reshape", ["h", "flat"], ["values"]), N("ScatterElements", ["zeros", "at", "values"], ["wide"], axis=2),
        N("Reshape", ["wide", "shape"], ["y"]), N("Cast", ["inside"], ["z"], to=1),
    ]  # fmt: skip
    constants = {"plane": np.int64(48), "flat": np.array([0, 0, -1]), "zeros": np.zeros((2, 4, 48), "f4"),
                 "shape": np.array(IMAGE)}  # fmt: skip
    agrees(tmp_path, model(nodes, {"x": IMAGE}, ["y", "z"], constants), X)


def test_token_numbers_become_floats(tmp_path: Path) -> None:
    """An int64 input that only Embed takes."""
    table = RNG.standard_normal((7, 5)).astype("f4")
    nodes = [N("Unsqueeze", ["ids", "front"], ["wide"]), N("Gather", ["table", "wide"], ["h"]), N("Relu", ["h"], ["y"])]
    content = model(nodes, {"ids": (3, 4)}, ["y"], {"table": table, "front": np.array([0])}, types={"ids": INT64})
    agrees(tmp_path, content, {"ids": RNG.integers(0, 7, (3, 4))}, "Reshape Embed ReLU")
    assert "input 'ids' is float32 in Caffe, as everything is there" in written(tmp_path, content).notes


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    """As exporters write x.view(x.size(0), -1)."""
    nodes = [
        N("Shape", ["x"], ["shape"]), N("Gather", ["shape", "first"], ["batch"], axis=0),
        N("Unsqueeze", ["batch", "first_axis"], ["row"]), N("Concat", ["row", "rest"], ["target"], axis=0),
        N("Reshape", ["x", "target"], ["y"]),
    ]  # fmt: skip
    constants = {"first": np.int64(0), "first_axis": np.array([0]), "rest": np.array([-1])}
    agrees(tmp_path, model(nodes, {"x": IMAGE}, ["y"], constants), X, "Flatten")


@pytest.mark.parametrize(
    ("nodes", "layers"),
    [
        ([N("Mul", ["x", "two"], ["a"]), N("Add", ["a", "three"], ["y"])], "Power"),
        ([N("Pow", ["x", "two"], ["a"]), N("Mul", ["a", "three"], ["y"])], "Power"),
        ([N("Mul", ["x", "c"], ["a"]), N("Add", ["a", "d"], ["y"])], "Scale"),
        ([N("Conv", ["x", "w"], ["a"]), N("Add", ["a", "d"], ["y"])], "Convolution"),
        ([N("Conv", ["x", "w"], ["a"]), N("Add", ["a", "d"], ["y"]), N("Relu", ["a"], ["z"])],
         "Convolution Scale ReLU"),
        ([N("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]), N("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
          N("Relu", ["b"], ["y"])], "ReLU"),
        ([N("Reshape", ["x", "flat"], ["a"]), N("Reshape", ["a", "image"], ["b"]), N("Relu", ["b"], ["y"])], "ReLU"),
        ([N("Identity", ["x"], ["a"]), N("Dropout", ["a"], ["b"]), N("Relu", ["b"], ["r"]),
          N("Identity", ["r"], ["y"])], "ReLU"),
    ],
)  # fmt: skip
def test_neighbours_are_joined(nodes: list[Any], layers: str, tmp_path: Path) -> None:
    constants = {
        "two": np.float32(2), "three": np.float32(3), "c": RNG.standard_normal((4, 1, 1)).astype("f4"),
        "d": RNG.standard_normal((4, 1, 1)).astype("f4"), "w": RNG.standard_normal((4, 4, 1, 1)).astype("f4"),
        "flat": np.array([2, -1]), "image": np.array(IMAGE),
    }  # fmt: skip
    outputs = ["y", "z"] if any("z" in node.output for node in nodes) else ["y"]
    agrees(tmp_path, model(nodes, {"x": IMAGE}, outputs, constants), X, layers)


def test_a_pattern_with_another_number_is_left_alone(tmp_path: Path) -> None:
    """ln(2 + e^-|x|) + max(x, 0) is no BNLL."""
    nodes = [
        N("Abs", ["x"], ["a"]), N("Neg", ["a"], ["b"]), N("Exp", ["b"], ["c"]), N("Add", ["c", "two"], ["d"]),
        N("Log", ["d"], ["e"]), N("Relu", ["x"], ["f"]), N("Add", ["e", "f"], ["y"]),
    ]  # fmt: skip
    content = model(nodes, {"x": IMAGE}, ["y"], {"two": np.float32(2)})
    agrees(tmp_path, content, X)
    assert "BNLL" not in layer_types(written(tmp_path, content))
    assert error(back(tmp_path, X)["y"], reference(content, X)["y"]) <= 1e-6
