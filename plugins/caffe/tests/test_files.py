"""Prototxt and caffemodel files of every age, and broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_caffe.layers import rules
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams

from plugins.caffe.tests.nets import caffemodel, inputs_text, run, run_onnx, write
from sdkpack.errors import ModelError
from sdkpack.types import TensorSpec

INPUT = inputs_text([(1, 2, 6, 6)])
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "in0" top: "conv" '
    "convolution_param { num_output: 3 kernel_size: 3 } }\n"
)
RELU = 'layer { name: "r" type: "ReLU" bottom: "in0" top: "r" }'
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }\n'
NET = INPUT + CONV + 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n' + FC
V1 = """
input: "in0" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layers { name: "conv" type: CONVOLUTION bottom: "in0" top: "conv" blobs_lr: 1
  convolution_param { num_output: 3 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }
"""


def weights() -> dict[str, list[Any]]:
    rng = np.random.default_rng(7)
    shapes = {"conv": ((3, 2, 3, 3), (3,)), "fc": ((4, 48), (4,))}
    # Multiples of 1/8 are exact in float16.
    return {name: [np.round(8 * rng.standard_normal(s)).astype("f4") / 8 for s in own] for name, own in shapes.items()}


X = {"in0": np.random.default_rng(8).standard_normal((1, 2, 6, 6)).astype("f4")}


@pytest.mark.parametrize(
    ("text", "form"), [(NET, "legacy"), (NET, "double"), (NET, "half"), (NET, "v1"), (V1, "v1"), (V1, "shape")]
)
def test_every_form_is_the_same_network(text: str, form: str, tmp_path: Path) -> None:
    expected = run(tmp_path, NET, weights(), X)["fc"]
    assert np.array_equal(run(tmp_path, text, weights(), X, form)["fc"], expected)


@pytest.mark.parametrize(
    "declared", ['input: "in0" input_shape { dim: 1 dim: 2 dim: 6 dim: 6 }', 'input: "in0" input_dim: [1, 2, 6, 6]']
)
def test_inputs_of_the_network_itself(declared: str, tmp_path: Path) -> None:
    expected = run(tmp_path, NET, weights(), X)["fc"]
    assert np.array_equal(run(tmp_path, declared + NET.removeprefix(INPUT), weights(), X)["fc"], expected)


def test_in_place_layers_make_versions(tmp_path: Path) -> None:
    """`half` reads the blob before it is overwritten a second time, `out` after."""
    text = inputs_text([(1, 3)]) + "".join(
        f'layer {{ name: "{name}" type: "Power" bottom: "{bottom}" top: "{top}" power_param {{ {settings} }} }}\n'
        for name, bottom, top, settings in (
            ("a", "in0", "x", "shift: 1"), ("b", "x", "x", "scale: 2"), ("half", "x", "half", "scale: 0.5"),
            ("c", "x", "x", "shift: -5"), ("out", "x", "out", "scale: 3"),
        )
    )  # fmt: skip
    x = np.array([[1, 2, 3]], "f4")
    found = run(tmp_path, text, {}, {"in0": x})
    assert list(found) == ["half", "out"]
    assert np.array_equal(found["half"], x + 1)
    assert np.array_equal(found["out"], 3 * (2 * (x + 1) - 5))


def test_an_input_may_be_overwritten(tmp_path: Path) -> None:
    text = INPUT + 'layer { name: "r" type: "ReLU" bottom: "in0" top: "in0" }'
    prototxt, model = write(tmp_path, text, {})
    content, notes = convert_network(prototxt, model, CaffeParams())
    assert list(run_onnx(content, X)) == ["in0_out"]
    assert notes == ("blob 'in0' is input and output: the output is called 'in0_out'",)


def test_two_names_of_one_value_are_two_outputs(tmp_path: Path) -> None:
    text = NET + "".join(f'layer {{ name: "{n}" type: "Dropout" bottom: "fc" top: "{n}" }}\n' for n in ("one", "two"))
    found = run(tmp_path, text, weights(), X)
    assert list(found) == ["one", "two"]
    assert np.array_equal(found["one"], found["two"])


TRAINING = """
layer { name: "data" type: "Data" top: "in0" top: "label" include { phase: TEST }
  transform_param { scale: 0.5 mirror: true } data_param { source: "db" batch_size: 8 backend: LMDB } }
layer { name: "aug" type: "Power" bottom: "in0" top: "in0" include { phase: TRAIN } power_param { scale: 9 } }
"""
LOSSES = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
layer { name: "extra" type: "ReLU" bottom: "fc" top: "extra" exclude { phase: TEST stage: "deploy" } }
"""


def test_only_the_phase_test_remains(tmp_path: Path) -> None:
    text = TRAINING + CONV + 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n' + FC + LOSSES
    expected = run(tmp_path, NET, weights(), X)["fc"]
    shapes = {"in0": (1, 2, 6, 6)}
    found = run(tmp_path, text, weights(), X, shapes=shapes, stages=("deploy",))
    assert list(found) == ["fc"]
    assert np.array_equal(found["fc"], expected)
    assert list(run(tmp_path, text, weights(), X, shapes=shapes)) == ["extra"]
    with pytest.raises(ModelError, match=r"is for training: layer 'data' \(Data\) reads a data set"):
        run(tmp_path, text, weights(), X)


def refused(folder: Path, text: str, blobs: Any = None, **params: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        convert_network(*write(folder, text, weights() if blobs is None else blobs), CaffeParams(**params))
    return caught.value


def test_all_unknown_layers_are_told_at_once(tmp_path: Path) -> None:
    text = NET + "".join(
        f'layer {{ name: "{name}" type: "{kind}" bottom: "fc" top: "{name}" {more} }}\n'
        for name, kind, more in (("a", "Python", ""), ("b", "Warp", "warp_param { angle: 3 }"), ("c", "Warp", ""))
    )
    error = refused(tmp_path, text)
    assert "3 layers of types that cannot be converted: Python, Warp" in str(error)
    assert [(problem.path, problem.got) for problem in error.problems] == [
        ("a", "Python"),
        ("b", "Warp"),
        ("c", "Warp"),
    ]


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    blobs = weights()
    blobs["conv"][0] = np.zeros((3, 2, 5, 5), "f4")
    problem = refused(tmp_path, NET, blobs).problems[0]
    assert (problem.path, problem.got, problem.expected) == ("conv", "[3, 2, 5, 5]", "[3, 2, 3, 3]")


def test_all_missing_weights_are_named(tmp_path: Path) -> None:
    """One layer after the other: the second is looked at although the first has no weights."""
    error = refused(tmp_path, NET, {"none": [np.zeros(1, "f4")]})
    assert [(problem.path, problem.expected) for problem in error.problems] == [
        ("conv", "blob 0 of shape [3, 2, 3, 3]"), ("conv", "blob 1 of shape [3]"),
        ("fc", "blob 0 of shape [4, 48]"), ("fc", "blob 1 of shape [4]"),
    ]  # fmt: skip
    assert "2 layers cannot be converted" in str(error)


def test_weights_of_another_network_are_told(tmp_path: Path) -> None:
    error = refused(tmp_path, NET, {"c1": [np.zeros(1, "f4")], "c2": [np.zeros(2, "f4")]})
    assert len(error.problems) == 4
    assert error.hint == "is it the caffemodel of another network? it has weights of the layers 'c1', 'c2'"


@pytest.mark.parametrize("rule", ["include { phase: TRAIN }", "exclude { phase: TEST }"])
def test_data_of_the_training_phase_alone(rule: str, tmp_path: Path) -> None:
    """The layers are for any phase, and what they begin with is for training."""
    data = f'layer {{ name: "data" type: "Data" top: "in0" top: "label" {rule} }}\n'
    error = refused(tmp_path, data + CONV)
    assert "is for training: layer 'data' (Data) reads a data set" in str(error)
    assert error.hint.endswith("convert.with.shapes = { in0 = [1, 3, 224, 224] }")
    found = run(tmp_path, data + CONV + LOSSES.replace("fc", "conv"), weights(), X, shapes={"in0": (1, 2, 6, 6)})
    assert np.array_equal(found["extra"], np.maximum(run(tmp_path, INPUT + CONV, weights(), X)["conv"], 0))


def test_a_blob_too_many_is_told(tmp_path: Path) -> None:
    blobs = weights()
    blobs["conv"].append(np.zeros(3, "f4"))
    problem = refused(tmp_path, NET, blobs).problems[0]
    assert (problem.got, problem.expected) == ("3", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no layer"),
        ("layer {", 'cannot be read: 1:[78] : Expected'),
        ('layer { name: 3 }', "cannot be read"),
        ('layer { name: "a" type: "ReLU" top: "a" include { phase: TRAIN } }', "all 1 layers are for training only"),
        ('layers { layer { name: "conv" type: "conv" } bottom: "x" top: "y" }', "the layer format V0"),
        (INPUT + RELU.replace("in0", "ghost"), "no layer before it makes its bottom"),
        (INPUT + 'layer { name: "r" bottom: "in0" top: "r" }', "has no type"),
        ('input: "in0"\n' + CONV, "gives input 'in0' no shape"),
        ('input: "in0" input: "b" input_dim: [1, 2, 6, 6]\n' + CONV, "names 2 inputs and gives 1 shapes"),
        (INPUT + CONV.replace("kernel_size: 3", "kernel_size: 3 dilation: 4"), "would be empty"),
        (INPUT + CONV.replace("num_output: 3", "num_output: 4294967295"), "another shape"),
        (inputs_text([(1, 2, 1 << 20, 1 << 20)]) + RELU, "too large"),
        (INPUT, "has no output"),
        (NET.replace("kernel_size: 3", "kernel_size: 3 turbo: 2"), 'no field named "turbo"'),
        ("x {" * 3000 + "}" * 3000, "cannot be read|describes no network"),
    ],
    ids=lambda value: value if "\n" not in value and len(value) < 40 else "net",
)  # fmt: skip
def test_a_broken_prototxt_is_refused(text: str, message: str, tmp_path: Path) -> None:
    import re

    assert re.search(message, str(refused(tmp_path, text)))


def test_an_unknown_field_may_be_ignored(tmp_path: Path) -> None:
    text = NET.replace("kernel_size: 3", "kernel_size: 3 turbo: 2")
    _, notes = convert_network(*write(tmp_path, text, weights()), CaffeParams(unknown_fields="ignore"))
    assert len(notes) == 1
    assert "turbo" in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no layers"),
        (caffemodel(weights())[:-7], "damaged, truncated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "in HDF5"),
        (NET.encode(), "damaged, truncated, or of another format"),
        (b"\xff" * 64, "damaged, truncated"),
    ],
    ids=["empty", "truncated", "hdf5", "prototxt", "noise"],
)
def test_a_broken_caffemodel_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    prototxt, model = write(tmp_path, NET, weights())
    model.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        convert_network(prototxt, model, CaffeParams())


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    prototxt, model = write(tmp_path, NET, weights())
    content = model.read_bytes()
    for size in range(0, len(content), 13):
        model.write_bytes(content[:size])
        with pytest.raises(ModelError):
            convert_network(prototxt, model, CaffeParams())


def test_a_blob_without_its_values_is_refused(tmp_path: Path) -> None:
    """What OpenCV's float16 files look like to a reader that does not know them must never become zeros."""
    from sdkpack_caffe.schema import weights_class

    prototxt, model = write(tmp_path, NET, weights(), "half")
    net = weights_class().FromString(model.read_bytes())
    net.layer[0].blobs[0].raw_type = 7
    model.write_bytes(net.SerializeToString())
    with pytest.raises(ModelError, match="108 raw bytes of type 7, expected float16"):
        convert_network(prototxt, model, CaffeParams())
    net.layer[0].blobs[0].ClearField("raw")
    model.write_bytes(net.SerializeToString())
    with pytest.raises(
        ModelError, match=r"'conv', blob 0 of the caffemodel has 0 values, expected 54 .* \[3, 2, 3, 3\]"
    ):
        convert_network(prototxt, model, CaffeParams())


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_operators_of_every_version(opset: int, tmp_path: Path) -> None:
    text = NET.replace(FC, "") + (
        'layer { name: "m" type: "MVN" bottom: "conv" top: "m" }\n'
        'layer { name: "s" type: "Slice" bottom: "m" top: "a" top: "b" slice_param { axis: 2 } }\n'
        'layer { name: "n" type: "Normalize" bottom: "a" top: "n" norm_param { } }\n'
        'layer { name: "u" type: "Reduction" bottom: "b" top: "u" reduction_param { operation: ASUM } }\n'
    )
    blobs = {"conv": weights()["conv"], "n": [np.ones(1, "f4")]}
    expected = run(tmp_path, text, blobs, X)
    found = run(tmp_path, text, blobs, X, opset=opset)
    assert all(np.allclose(found[name], expected[name], atol=1e-6) for name in ("n", "u"))


OPEN = inputs_text([(1, 2, 8, 8)]) + CONV + (
    'layer { name: "p" type: "Pooling" bottom: "conv" top: "p" pooling_param { kernel_size: 2 stride: 2 } }\n'
    'layer { name: "a" type: "Permute" bottom: "p" top: "a" permute_param { order: [0, 2, 3, 1] } }\n'
    'layer { name: "r" type: "Reshape" bottom: "a" top: "r" reshape_param { shape { dim: [0, -1, 3] } } }\n'
)  # fmt: skip


def test_open_sizes_run_at_any_size(tmp_path: Path) -> None:
    import onnx

    blobs = {"conv": weights()["conv"]}
    shape = {"in0": ("N", 2, "H", "W")}
    files = write(tmp_path, OPEN, blobs)
    content, _ = convert_network(*files, CaffeParams(shapes=shape))
    declared = [TensorSpec(name="in0", dtype="float32", shape=("N", 2, "H", "W"))]
    assert convert_network(*files, CaffeParams(), declared=declared)[0] == content
    graph = onnx.load_from_string(content).graph
    dims = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert dims == [["N", 2, "H", "W"], ["N", "r_1", 3]]
    for size in ((1, 2, 8, 8), (3, 2, 9, 21), (2, 2, 100, 7)):
        x = {"in0": np.random.default_rng(9).standard_normal(size).astype("f4")}
        fixed = run(tmp_path, OPEN, blobs, x, shapes={"in0": size})
        assert np.array_equal(run_onnx(content, x)["r"], fixed["r"])


def test_a_batch_that_a_layer_folds_is_told(tmp_path: Path) -> None:
    folded = OPEN.replace("dim: [0, -1, 3]", "dim: [1, -1, 3]")
    files = write(tmp_path, folded, {"conv": weights()["conv"]})
    _, notes = convert_network(*files, CaffeParams(shapes={"in0": ("N", 2, 8, 8)}))
    assert notes == ("output 'r' has a first size that does not follow the batch: a layer of the prototxt fixes it",)
    assert not convert_network(*write(tmp_path, OPEN, {"conv": weights()["conv"]}), CaffeParams())[1]


def test_sizes_that_must_be_fixed_are_not_left_open(tmp_path: Path) -> None:
    average = OPEN.replace("{ kernel_size: 2", "{ pool: AVE kernel_size: 2")
    error = refused(tmp_path, average, {"conv": weights()["conv"]}, shapes={"in0": (1, 2, "H", 8)})
    assert "average pooling needs fixed sizes" in str(error)
    crop = OPEN + 'layer { name: "c" type: "Interp" bottom: "conv" top: "c" interp_param { zoom_factor: 2 } }\n'
    error = refused(tmp_path, crop, {"conv": weights()["conv"]}, shapes={"in0": (1, 2, "H", 8)})
    assert "the network needs fixed sizes: 'c/sizes' depends on an open one" in str(error)


def test_an_unknown_input_is_told(tmp_path: Path) -> None:
    assert "has no input 'image'" in str(refused(tmp_path, NET, shapes={"image": (1, 2, 6, 6)}))


RANKS = ((), (3,), (2, 3), (2, 3, 4), (1, 3, 4, 5), (1, 2, 3, 4, 5))


@pytest.mark.parametrize("kind", sorted(rules()))
def test_odd_bottoms_are_refused_or_converted(kind: str, tmp_path: Path) -> None:
    """Any number of bottoms of any rank, without settings or weights: nothing but a ModelError comes of it."""
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"none": []}))
    prototxt = tmp_path / "net.prototxt"
    for bottoms in ((), *((rank,) * count for rank in RANKS for count in (1, 2, 3))):
        # A scalar comes of a sum over everything.
        text = inputs_text([shape or (2,) for shape in bottoms])
        for at, shape in enumerate(bottoms):
            text += "" if shape else f'layer {{ name: "s" type: "Reduction" bottom: "in{at}" top: "s{at}" }}\n'
        names = " ".join(f'bottom: "{"in" if shape else "s"}{at}"' for at, shape in enumerate(bottoms))
        for tops in ('top: "a"', 'top: "a" top: "b"', ""):
            prototxt.write_text(f'{text}layer {{ name: "it" type: "{kind}" {names} {tops} }}')
            try:
                content, _ = convert_network(prototxt, tmp_path / "net.caffemodel", CaffeParams())
            except ModelError:
                continue
            assert content
