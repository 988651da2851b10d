"""The written files: names, order, the same bytes; and models that are refused, with what would help."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sdkpack_caffe.caffemodel import read_caffemodel
from sdkpack_caffe.params import CaffeWriterParams
from sdkpack_caffe.writer import files, source
from sdkpack_caffe.writer.build import write_network

from plugins.caffe.tests.nets import error, run_onnx
from plugins.caffe.tests.onnx_nets import INT64, back, layer_types, model, opencv, written
from sdkpack.errors import ExternalDataError, ModelError
from sdkpack.types import TensorSpec

N = helper.make_node
IMAGE = (1, 4, 6, 8)
X = {"x": np.random.default_rng(2).standard_normal(IMAGE).astype("f4")}
W = np.random.default_rng(3).standard_normal((5, 4, 3, 3)).astype("f4")
CONV = model([N("Conv", ["x", "w"], ["y"], name="c")], {"x": IMAGE}, ["y"], {"w": W})


def refused(folder: Path, content: bytes, **params: Any) -> ModelError:
    (folder / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        write_network(folder / "net.onnx", CaffeWriterParams(**params))
    return caught.value


# Files --------------------------------------------------------------------------------------------------------------
PROTOTXT = """name: "net"
layer {
  name: "x"
  type: "Input"
  top: "x"
  input_param {
    shape {
      dim: 1
      dim: 4
      dim: 6
      dim: 8
    }
  }
}
layer {
  name: "y"
  type: "Convolution"
  bottom: "x"
  top: "y"
  convolution_param {
    num_output: 5
    bias_term: false
    kernel_size: 3
  }
}
"""


def test_the_text_is_for_people(tmp_path: Path) -> None:
    assert written(tmp_path, CONV).prototxt == PROTOTXT


def test_the_weights_are_there_to_the_bit(tmp_path: Path) -> None:
    written(tmp_path, CONV)
    (blob,) = read_caffemodel(tmp_path / "net.caffemodel")["y"]
    assert not blob.legacy
    assert blob.values.tobytes() == W.tobytes()
    assert blob.values.shape == W.shape


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path, CONV) == written(tmp_path, CONV)


def test_names_are_made_plain_and_told(tmp_path: Path) -> None:
    """TensorFlow's colons, spaces and letters of other alphabets; two names that become one."""
    nodes = [N("Relu", ["x:0"], ["a b"]), N("Neg", ["a b"], ["a:b"]), N("Abs", ["a:b"], ["größe"]),
             N("Exp", ["größe"], ["y:0"]), N("Tanh", ["größe"], ["y_0"])]  # fmt: skip
    content = model(nodes, {"x:0": IMAGE}, ["y:0", "y_0"])
    found = written(tmp_path, content)
    assert found.notes == (
        "input 'x:0' is called 'x_0'",
        "output 'y:0' is called 'y_0'",
        "output 'y_0' is called 'y_0_2'",
        "3 inner names have signs that readers of prototxt files do not take, and '_' in their place: 'a b' and others",
    )
    expected = run_onnx(content, {"x:0": X["x"]})
    results = back(tmp_path, {"x_0": X["x"]})
    assert list(results) == ["y_0", "y_0_2"]
    assert error(results["y_0"], expected["y:0"]) <= 1e-6
    assert error(results["y_0_2"], expected["y_0"]) <= 1e-6


def test_outputs_stand_in_their_order_under_their_names(tmp_path: Path) -> None:
    """One that another layer takes, one that is an input, one that two names mean, one that is fixed."""
    nodes = [
        N("Relu", ["x"], ["inner"]), N("Exp", ["inner"], ["last"]), N("Identity", ["inner"], ["twin"]),
        N("Identity", ["x"], ["same"]), N("Constant", [], ["fixed"], value_floats=[1.0, 2.0]),
    ]  # fmt: skip
    outputs = ["fixed", "last", "twin", "inner", "same"]
    content = model(nodes, {"x": IMAGE}, outputs)
    expected = run_onnx(content, X)
    written(tmp_path, content)
    results = back(tmp_path, X)
    assert list(results) == outputs
    for name, theirs in zip(outputs, opencv(tmp_path, X, outputs), strict=True):
        assert error(results[name], expected[name]) <= 1e-6
        assert error(theirs.reshape(expected[name].shape), expected[name]) <= 1e-6


def test_two_names_of_one_value_are_two_outputs(tmp_path: Path) -> None:
    nodes = [N("Relu", ["x"], ["one"]), N("Transpose", ["one"], ["two"], perm=[0, 1, 2, 3])]
    content = model(nodes, {"x": IMAGE}, ["one", "two"])
    assert layer_types(written(tmp_path, content)) == ["ReLU", "Split", "Split"]
    results = back(tmp_path, X)
    assert list(results) == ["one", "two"]
    assert np.array_equal(results["one"], results["two"])


def test_what_is_not_used_is_no_output(tmp_path: Path) -> None:
    nodes = [N("Relu", ["x"], ["y"]), N("Exp", ["z"], ["nothing"])]
    found = written(tmp_path, model(nodes, {"x": IMAGE, "z": IMAGE}, ["y"]))
    assert layer_types(found) == ["ReLU", "Silence"]
    assert found.notes == ("input 'z' is not used",)
    assert list(back(tmp_path, {**X, "z": X["x"]})) == ["y"]


def test_layers_that_are_ruled_out(tmp_path: Path) -> None:
    """Clip and ReLU6 have others in their place, Permute has not."""
    nodes = [N("Clip", ["x", "low", "high"], ["a"]), N("Transpose", ["a"], ["y"], perm=[0, 2, 3, 1], name="turn")]
    content = model(nodes[:1], {"x": IMAGE}, ["a"], {"low": np.float32(0), "high": np.float32(6)})
    assert layer_types(written(tmp_path, content)) == ["ReLU6"]
    assert layer_types(written(tmp_path, content, without=("ReLU6",))) == ["Clip"]
    plain = written(tmp_path, content, without=("ReLU6", "Clip"))
    assert set(layer_types(plain)) == {"Power", "ReLU"}
    large = {"x": 6 * X["x"]}
    assert error(back(tmp_path, large)["a"], run_onnx(content, large)["a"]) <= 1e-6
    content = model(nodes, {"x": IMAGE}, ["y"], {"low": np.float32(0), "high": np.float32(6)})
    problem = refused(tmp_path, content, without=("Permute",)).problems[0]
    assert (problem.path, problem.got) == ("turn", "Permute")


@pytest.mark.parametrize(
    ("how", "layers", "field"),
    [("round_mode", "Pooling", "round_mode: FLOOR"), ("ceil_mode", "Pooling", "ceil_mode: false"),
     ("slice", "Pooling Slice Silence Slice Silence Split", "slice_point")],
)  # fmt: skip
def test_a_pooling_may_round_downwards_in_three_ways(how: str, layers: str, field: str, tmp_path: Path) -> None:
    node = N("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    content = model([node], {"x": IMAGE}, ["y"])
    found = written(tmp_path, content, floor_pooling=how)
    assert layer_types(found) == layers.split()
    assert field in found.prototxt
    assert np.array_equal(back(tmp_path, X)["y"], run_onnx(content, X)["y"])


# Shapes and types ---------------------------------------------------------------------------------------------------
def test_open_sizes_are_asked_for(tmp_path: Path) -> None:
    content = model([N("Relu", ["x"], ["y"])], {"x": ["N", 3, "H", 224]}, ["y"])
    found = refused(tmp_path, content)
    assert found.hint == "set them: convert.with.shapes = { x = [1, 3, 224, 224] }"
    assert found.problems[0].got == "['N', 3, 'H', 224]"
    assert written(tmp_path, content, shapes={"x": (2, 3, 32, 224)}).shapes["y"] == (2, 3, 32, 224)
    (tmp_path / "net.onnx").write_bytes(content)
    declared = [TensorSpec(name="x", dtype="float32", shape=(1, 3, 8, 224))]
    found_too = write_network(tmp_path / "net.onnx", CaffeWriterParams(), declared=declared)
    assert found_too.shapes["y"] == (1, 3, 8, 224)


def test_names_in_hints_are_toml(tmp_path: Path) -> None:
    content = model([N("Relu", ["x:0"], ["y"])], {"x:0": ["N", 3]}, ["y"])
    assert refused(tmp_path, content).hint == 'set them: convert.with.shapes = { "x:0" = [1, 3] }'


@pytest.mark.parametrize(
    ("shapes", "message"),
    [({"x": (1, 4, 6, 9)}, r"another shape, expected \[1, 4, 6, 8\], got \[1, 4, 6, 9\]"),
     ({"x": (4, 6, 8)}, "another shape"), ({"z": (1,)}, "has no input 'z'")],
)  # fmt: skip
def test_shapes_that_do_not_fit(shapes: Any, message: str, tmp_path: Path) -> None:
    import re

    assert re.search(message, str(refused(tmp_path, CONV, shapes=shapes)))


def test_inputs_of_other_types_are_refused_together(tmp_path: Path) -> None:
    content = model([N("Concat", ["a", "b"], ["y"], axis=0)], {"a": (2,), "b": (2,)}, ["y"],
                    types={"a": TensorProto.UINT8, "b": TensorProto.STRING, "y": TensorProto.UINT8})  # fmt: skip
    found = refused(tmp_path, content)
    assert [(problem.path, problem.got) for problem in found.problems] == [("a", "UINT8"), ("b", "STRING")]


def test_half_and_double_are_computed_in_float32(tmp_path: Path) -> None:
    nodes = [N("Cast", ["x"], ["h"], to=TensorProto.FLOAT), N("Conv", ["h", "w"], ["y"])]
    content = model(nodes, {"x": IMAGE}, ["y"], {"w": W}, types={"x": TensorProto.FLOAT16})
    assert written(tmp_path, content).notes == ("input 'x' is float32 in Caffe, as everything is there",)
    assert error(back(tmp_path, X)["y"], run_onnx(CONV, X)["y"]) <= 1e-6


# What has no layer --------------------------------------------------------------------------------------------------
def test_everything_without_a_layer_is_told_at_once(tmp_path: Path) -> None:
    nodes = [
        N("Erf", ["x"], ["a"], name="erf"), N("Relu", ["a"], ["b"], name="fine"),
        N("NonZero", ["b"], ["c"], name="places"), N("MatMul", ["x", "b"], ["d"], name="product"),
        N("Acme", ["d"], ["e"], name="own", domain="acme"), N("Round", ["x"], ["f"], name="round"),
        N("Det", ["x"], ["g"], name=""), N("Cast", ["c"], ["h"], to=1, name="follows"),
    ]  # fmt: skip
    content = model(nodes, {"x": (1, 4, 6, 6)}, ["e", "f", "g", "h"])
    loaded = onnx.load_from_string(content)
    loaded.opset_import.append(helper.make_opsetid("acme", 1))
    found = refused(tmp_path, loaded.SerializeToString())
    assert [problem.path for problem in found.problems] == ["erf", "places", "product", "own", "round", "g"]
    assert all(problem.hint for problem in found.problems)
    assert "6 nodes have no form in Caffe; operators without a layer: Det, Erf, NonZero, Round, acme.Acme" in str(found)
    assert found.problems[0].hint == "export the model with the tanh form of Gelu"
    assert found.problems[2].message.startswith("MatMul: the product of two computed matrices")


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (N("BatchNormalization", ["x", "c", "c", "c", "c"], ["y", "m", "v"], training_mode=1), {"c": (4,)},
         "in training mode.*model.eval"),
        (N("Dropout", ["x", "r", "t"], ["y"]), {"r": np.float32(0.5), "t": np.array(True)}, "no layer.*model.eval"),
        (N("Dropout", ["x"], ["y", "mask"]), {}, ""),
        (N("RandomNormalLike", ["x"], ["y"]), {}, "random numbers belong to training"),
        (N("Conv", ["x", "x"], ["y"]), {}, "its weights are computed"),
        (N("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]), {}, "knows no dilation"),
        (N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[0, 0, 3, 3]), {},
         r"whichever way it rounds, expected \[8, 10\], got \[5, 7\] or \[5, 7\]"),
        (N("LRN", ["x"], ["y"], size=4), {}, "local_size is odd"),
        (N("Gelu", ["x"], ["y"]), {}, "no error function"),
        (N("Pow", ["x", "x"], ["y"]), {}, "one exponent"),
        (N("Resize", ["x", "", "s"], ["y"], coordinate_transformation_mode="tf_crop_and_resize"),
         {"s": np.ones(4, "f4")}, "tf_crop_and_resize"),
        (N("MaxPool", ["x"], ["h", "y"], kernel_shape=[2, 2]), {}, "counts otherwise"),
        (N("Cast", ["x"], ["y"], to=7), {}, "cannot round"),
        (N("QuantizeLinear", ["x", "s"], ["y"]), {"s": np.float32(1)}, "before quantization"),
        (N("Relu", ["nowhere"], ["y"]), {}, "Relu"),
        (N("Softmax", ["x"], ["y"], axis=9), {}, "Softmax"),
        (N("caffe.LRN", ["x"], ["y"]), {}, "no layer of Caffe"),
        (N("Conv", ["x", "w"], ["y"], strides=[1]), {"w": W}, "Conv"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)  # fmt: skip
def test_nodes_that_caffe_cannot_express(node: Any, constants: dict[str, Any], message: str, tmp_path: Path) -> None:
    import re

    arrays = {name: np.ones(value, "f4") if isinstance(value, tuple) else value for name, value in constants.items()}
    content = model([node], {"x": IMAGE}, ["y"], arrays, opset=20)
    if not message:
        written(tmp_path, content)
        return
    assert re.search(message, str(refused(tmp_path, content)), re.DOTALL), str(refused(tmp_path, content))


def test_a_training_graph_is_refused(tmp_path: Path) -> None:
    loaded = onnx.load_from_string(CONV)
    loaded.training_info.add()
    assert "carries a training graph" in str(refused(tmp_path, loaded.SerializeToString()))


def test_two_gibibytes_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes alone say so, before a byte is read; and the limit holds for what is written, too."""
    loaded = onnx.load_from_string(CONV)
    loaded.graph.initializer[0].dims[:] = [1 << 15, 1 << 15]
    found = refused(tmp_path, loaded.SerializeToString())
    assert "more than 2147483647 bytes in float32" in str(found)
    assert "models.NAME.cut" in found.hint
    monkeypatch.setattr(files, "MAX_WEIGHTS", W.nbytes - 1)
    assert f"the weights have {W.nbytes} bytes" in str(refused(tmp_path, CONV))


# Files that are no models ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [b"", b"\xff" * 50, b"name: 'net'", CONV[:-20], b"\x08\x07"])
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    assert "no ONNX model" in str(refused(tmp_path, content))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [N("Relu", ["b"], ["a"]), N("Relu", ["a"], ["b"]), N("Relu", ["b"], ["y"])],
            "takes 'b', which nothing before",
        ),
        ([N("Relu", ["x"], ["y"]), N("Abs", ["x"], ["y"])], "makes 'y' a second time"),
        ([N("Relu", ["x"], ["a"])], "nothing makes the output 'y'"),
    ],
)
def test_graphs_that_go_round(nodes: list[Any], message: str, tmp_path: Path) -> None:
    assert message in str(refused(tmp_path, model(nodes, {"x": IMAGE}, ["y"])))


def test_changed_bytes_give_a_network_or_a_refusal(tmp_path: Path) -> None:
    nodes = [N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), N("MaxPool", ["a"], ["b"], kernel_shape=[2, 2]),
             N("Reshape", ["b", "s"], ["c"]), N("Softmax", ["c"], ["y"], axis=1)]  # fmt: skip
    whole = model(nodes, {"x": IMAGE}, ["y"], {"w": W[:, :, :1, :1], "s": np.array([1, -1])})
    choose, refusals = random.Random(4), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(choose.choice((1, 1, 3))):
            content[choose.randrange(len(content))] = choose.randrange(256)
        (tmp_path / "net.onnx").write_bytes(bytes(content))
        try:
            write_network(tmp_path / "net.onnx", CaffeWriterParams())
        except ModelError:
            refusals += 1
    assert refusals > 30


# Weights in files of their own --------------------------------------------------------------------------------
def external(folder: Path, **facts: Any) -> bytes:
    (folder / "w.bin").write_bytes(W.tobytes())
    loaded = onnx.load_from_string(CONV)
    tensor = loaded.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "w.bin", "offset": 0, "length": W.nbytes} | facts).items():
        tensor.external_data.add(key=key, value=str(value))
    return bytes(loaded.SerializeToString())


def test_external_data_is_read(tmp_path: Path) -> None:
    written(tmp_path, external(tmp_path))
    assert np.array_equal(back(tmp_path, X)["y"], run_onnx(CONV, X)["y"])


@pytest.mark.parametrize(
    "facts",
    [{"location": "../w.bin"}, {"location": "/etc/passwd"}, {"location": "a/../w.bin"}, {"location": "link.bin"},
     {"location": "."}, {"location": "none.bin"}, {"location": ""}, {"location": "hard.bin"}, {"length": 1 << 40},
     {"offset": -4}, {"offset": 1 << 50}, {"offset": "x"}],
    ids=str,
)  # fmt: skip
def test_external_data_elsewhere_is_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    content = external(tmp_path, **facts)
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    if facts.get("location") == "hard.bin":
        (tmp_path / "hard.bin").hardlink_to(tmp_path / "w.bin")
    assert isinstance(refused(tmp_path, content), ExternalDataError)


def test_a_few_bytes_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    node = N("ConstantOfShape", ["s"], ["y"])
    content = model([node], {"x": IMAGE}, ["y"], {"s": np.array([1 << 20, 1 << 20])})
    assert refused(tmp_path, content).problems
    many = [N("Concat", [f"t{at}"] * 8, [f"t{at + 1}"], axis=0) for at in range(12)]
    content = model(many, {"x": IMAGE}, ["t12"], {"t0": np.ones(64, "f4")})
    assert refused(tmp_path, content).problems


def test_limits_are_the_formats() -> None:
    assert source.MAX_WEIGHTS == (1 << 31) - 1
    assert INT64 == 7
