"""Every operator that can be written: the model in ONNX's reference, its Caffe form read back, and OpenCV."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from sdkpack_caffe.writer.operators import node_rules

from plugins.caffe.tests.nets import error, run_onnx
from plugins.caffe.tests.onnx_nets import BOOL, INT64, OPENCV, back, layer_types, model, opencv, reference, written

IMAGE = (2, 4, 7, 9)


@dataclass(frozen=True)
class Case:
    """One node: what it takes, which of that is fixed, and which layers come of it."""

    op: str
    inputs: tuple[Any, ...] = (IMAGE,)
    """Shapes of what is computed, arrays of what is fixed, None for what is left out."""
    layers: str = ""
    """Types of the layers, in order; empty: not said."""
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    outputs: int = 1
    values: str = "normal"
    opencv: bool = True
    tolerance: float = 2e-6
    result: int = 1
    runtime: bool = False
    """ONNX's reference does not follow ONNX here (1.23), so ONNX Runtime says what is right."""

    def __str__(self) -> str:
        parts = [str(list(part)) if isinstance(part, tuple) else "const" for part in self.inputs if part is not None]
        facts = " ".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.op}-{self.opset} {' '.join(parts)} {facts} {self.layers}"[:110]


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 5) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def scalar(value: float) -> Any:
    return np.float32(value)


ACTIVATIONS = [
    Case("Relu", layers="ReLU"),
    Case("Relu", inputs=((3, 5),), layers="ReLU"),
    Case("Sigmoid", layers="Sigmoid"),
    Case("Tanh", layers="TanH"),
    Case("Abs", layers="AbsVal"),
    Case("Exp", layers="Exp"),
    Case("Log", layers="Log", values="positive"),
    Case("Neg", layers="Power"),
    Case("Sqrt", layers="Power", values="positive"),
    Case("Reciprocal", layers="Power", values="positive"),
    Case("Sign", layers="Threshold Power Threshold Eltwise", opencv=False),
    Case("Softplus", layers="BNLL"),
    Case("Softsign", layers="AbsVal Power Eltwise"),
    Case("LeakyRelu", layers="ReLU", attributes={"alpha": 0.3}),
    Case("LeakyRelu", layers="ReLU"),
    Case("Elu", layers="ELU", attributes={"alpha": 0.7}),
    Case("Selu", layers="ELU Power"),
    Case("Celu", layers="Power ELU Power", attributes={"alpha": 0.6}),
    Case("HardSigmoid", layers="Power Clip", attributes={"alpha": 0.3}),
    Case("HardSwish", layers="Power Clip Eltwise", values="large"),
    Case("Mish", opset=18, layers="BNLL TanH Eltwise"),
    Case("Gelu", opset=20, attributes={"approximate": "tanh"}),
    Case("Swish", opset=24, layers="Sigmoid Eltwise", attributes={}),
    Case("ThresholdedRelu", layers="Threshold Eltwise", attributes={"alpha": 0.4}, opencv=False),
    Case("Clip", (IMAGE, scalar(0), scalar(6)), "ReLU6", values="large"),
    Case("Clip", (IMAGE, scalar(-0.5), scalar(0.25)), "Clip"),
    Case("Clip", (IMAGE, scalar(0)), "ReLU"),
    Case("Clip", (IMAGE, None, scalar(0.5)), "Power ReLU Power"),
    Case("Clip", layers="ReLU6", attributes={"min": 0.0, "max": 6.0}, opset=6, values="large"),
    Case("Clip", layers="ReLU", attributes={"min": 0.0, "max": 3.4028234663852886e38}, opset=6),
    Case("PRelu", (IMAGE, floats(4, 1, 1)), "PReLU"),
    Case("PRelu", (IMAGE, floats(1)), "ReLU"),
    Case("PRelu", ((2, 4), floats(4)), "PReLU"),
    Case("PRelu", (IMAGE, floats(7, 1)), "Power ReLU Scale ReLU Eltwise"),
    Case("PRelu", (IMAGE, IMAGE), "Power ReLU Eltwise ReLU Eltwise"),
    Case("Pow", (IMAGE, scalar(2)), "Power"),
    Case("Pow", (IMAGE, scalar(0.5)), "Power", values="positive"),
    Case("Pow", (scalar(3), IMAGE), "Exp"),
    Case("Pow", (IMAGE, scalar(0)), "Reshape Power Pooling InnerProduct Reshape"),
]

SUMS = [
    Case(op, inputs, layers, values="positive" if op == "Div" else "normal")
    for op, inputs, layers in (
        ("Add", (IMAGE, IMAGE), "Eltwise"),
        ("Add", (IMAGE, scalar(2)), "Power"),
        ("Add", (scalar(2), IMAGE), "Power"),
        ("Add", (IMAGE, floats(4, 1, 1)), "Scale"),
        ("Add", (IMAGE, floats(7, 1)), "Scale"),
        ("Add", (IMAGE, floats(*IMAGE)), "Scale"),
        ("Add", (IMAGE, floats(2, 1, 7, 1)), "Scale"),
        ("Add", ((4, 1), floats(4, 3)), "Tile Scale"),
        ("Add", (IMAGE, (2, 4, 1, 1)), "Flatten Bias"),
        ("Add", (IMAGE, (9,)), "Bias"),
        ("Add", ((2, 1, 7, 1), IMAGE), "Reshape Tile Bias"),
        ("Add", ((2, 4, 1, 9), (2, 1, 7, 1)), None),
        ("Sub", (IMAGE, IMAGE), "Eltwise"),
        ("Sub", (IMAGE, floats(4, 1, 1)), "Scale"),
        ("Sub", (scalar(1), IMAGE), "Power"),
        ("Sub", (IMAGE, (4, 1, 1)), None),
        ("Mul", (IMAGE, IMAGE), "Eltwise"),
        ("Mul", (IMAGE, scalar(-3)), "Power"),
        ("Mul", (IMAGE, floats(4, 1, 1)), "Scale"),
        ("Mul", (IMAGE, (2, 4, 1, 1)), "Flatten Scale"),
        ("Mul", (IMAGE, (1, 1, 7, 9)), "Reshape Scale"),
        ("Mul", (IMAGE, (2, 1, 7, 9)), None),
        ("Div", (IMAGE, IMAGE), "Power Eltwise"),
        ("Div", (IMAGE, scalar(3)), "Power"),
        ("Div", (scalar(3), IMAGE), "Power"),
        ("Div", (IMAGE, floats(4, 1, 1)), "Scale"),
        ("Div", (IMAGE, (2, 4, 1, 1)), "Power Flatten Scale"),
        ("Max", (IMAGE, IMAGE), "Eltwise"),
        ("Max", (IMAGE, scalar(0.2)), "Power ReLU Power"),
        ("Max", (IMAGE, floats(4, 1, 1)), None),
        ("Min", (IMAGE, IMAGE, IMAGE), "Power Power Power Eltwise Power"),
        ("Min", (IMAGE, scalar(0.2)), "Power ReLU Power"),
        ("Sum", (IMAGE, IMAGE, IMAGE), "Eltwise Eltwise"),
        ("Mean", (IMAGE, IMAGE), "Eltwise Power"),
    )
]


def conv(weights: Any, bias: Any = None, shape: Any = IMAGE, layers: str = "Convolution", **attributes: Any) -> Case:
    return Case("Conv", (shape, weights) if bias is None else (shape, weights, bias), layers, attributes)


PRODUCTS = [
    conv(floats(6, 4, 3, 3), floats(6)),
    conv(floats(6, 4, 3, 2), strides=[2, 1], pads=[1, 0, 1, 0]),
    conv(floats(6, 2, 3, 3), group=2, dilations=[2, 1], pads=[2, 1, 2, 1]),
    conv(floats(4, 1, 3, 3), floats(4), group=4, pads=[1, 1, 1, 1]),
    conv(floats(6, 4, 3, 3), floats(6), pads=[0, 0, 1, 1], strides=[2, 2]),
    conv(floats(6, 4, 3, 3), pads=[2, 0, 0, 1]),
    conv(floats(6, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv(floats(6, 4, 2, 2), auto_pad="SAME_LOWER"),
    conv(floats(6, 4, 2, 2), auto_pad="VALID"),
    conv(floats(6, 4, 2, 2), pads=[0, 0, 2, 2], dilations=[2, 2]),
    conv(floats(6, 4, 2, 2), pads=[2, 4, 0, 0], dilations=[2, 2]),
    conv(floats(6, 4, 3), floats(6), shape=(2, 4, 9), pads=[1, 1]),
    Case("Conv", ((1, 2, 4, 5, 6), floats(3, 2, 2, 2, 2)), "Convolution", opencv=False),
    *[Case("ConvTranspose", (IMAGE, floats(4, 3, 4, 4), floats(3)), "Deconvolution", attributes, runtime=True)
      for attributes in (
          {}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"strides": [2, 2], "output_padding": [1, 1]},
          {"strides": [3, 2], "pads": [0, 1, 1, 2]}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
          {"strides": [2, 2], "output_shape": [15, 19]},
          {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
      )],
    Case("ConvTranspose", (IMAGE, floats(4, 3, 3, 3)), "Deconvolution", {"group": 2, "strides": [2, 2]},
         runtime=True),
    # OpenCV takes a dilation of 1 in any case.
    Case("ConvTranspose", (IMAGE, floats(4, 3, 3, 3)), "Deconvolution", {"dilations": [2, 2]}, runtime=True,
         opencv=False),
    Case("Gemm", ((3, 5), floats(5, 6)), "InnerProduct"),
    Case("Gemm", ((3, 5), floats(6, 5), floats(6)), "InnerProduct", {"transB": 1}),
    Case("Gemm", ((5, 3), floats(6, 5), floats(1)), "Permute InnerProduct",
         {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", ((3, 5), floats(5, 6), floats(3, 6)), "InnerProduct Scale"),
    Case("Gemm", ((3, 5), floats(5, 6), (3, 6)), "InnerProduct Eltwise"),
    Case("MatMul", ((3, 5), floats(5, 6)), "InnerProduct"),
    Case("MatMul", ((2, 3, 5), floats(5, 6)), "InnerProduct"),
    Case("MatMul", ((3, 5), floats(5)), "InnerProduct Reshape"),
    Case("MatMul", (floats(6, 3), (3, 5)), "Permute InnerProduct Permute"),
    Case("MatMul", (floats(6, 3), (2, 3, 5)), "Permute InnerProduct Permute"),
]  # fmt: skip

POOLS = [
    Case(op, (shape,), "", {"kernel_shape": [k, k], "strides": [s, s], "pads": list(pads), **more}, opset=19,
         runtime=True)
    for op in ("MaxPool", "AveragePool")
    for more in ({}, {"ceil_mode": 1}, *([{"count_include_pad": 1}] if op == "AveragePool" else []))
    for k, s, pads in ((2, 2, (0,) * 4), (3, 2, (0,) * 4), (3, 2, (1,) * 4), (3, 1, (1,) * 4), (2, 2, (0, 0, 1, 1)),
                       (3, 2, (1, 1, 0, 0)), (3, 3, (0, 1, 1, 2)))
    for shape in ((1, 2, 7, 9), (1, 2, 8, 6))
    # ONNX's inference gives these one window more than ONNX Runtime computes.
    if not ("ceil_mode" in more and pads == (0, 0, 1, 1) and shape == (1, 2, 8, 6))
] + [
    Case("MaxPool", ((2, 3, 9),), "Reshape Pooling Reshape", {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("MaxPool", attributes={"kernel_shape": [3, 2], "strides": [1, 2], "auto_pad": "SAME_UPPER"}),
    Case("AveragePool", attributes={"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    Case("MaxPool", layers="Pooling Slice Silence Slice Silence Split",
         attributes={"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", layers="Pooling", attributes={"kernel_shape": [1, 1], "strides": [2, 3]}),
    Case("GlobalAveragePool", layers="Pooling"),
    Case("GlobalMaxPool", layers="Pooling"),
    Case("GlobalAveragePool", ((2, 3, 5),), "Reshape Pooling Reshape"),
]  # fmt: skip

SHAPES = [
    Case("Concat", (IMAGE, (2, 1, 7, 9)), "Concat", {"axis": 1}),
    Case("Concat", (IMAGE, IMAGE), "Concat", {"axis": -1}),
    Case("Concat", (IMAGE, floats(2, 1, 7, 9)), "", {"axis": 1}),
    Case("Flatten", layers="Flatten"),
    Case("Flatten", layers="Reshape", attributes={"axis": 2}),
    Case("Flatten", layers="Reshape", attributes={"axis": 0}),
    Case("Reshape", (IMAGE, ints(0, -1, 3)), "Reshape"),
    Case("Reshape", (IMAGE, ints(-1)), "Reshape"),
    Case("Squeeze", ((2, 1, 3, 1), ints(1)), "Reshape"),
    Case("Unsqueeze", ((2, 3), ints(0, 3)), "Reshape"),
    Case("Unsqueeze", ((2, 3),), "Reshape", {"axes": [1]}, opset=11),
    Case("Transpose", layers="Permute", attributes={"perm": [0, 2, 3, 1]}),
    Case("Transpose", layers="Permute"),
    Case("Transpose", ((1, 4, 1, 3),), "Reshape", {"perm": [0, 2, 1, 3]}),
    Case("Split", (IMAGE, ints(1, 3)), "Slice Split Split", {"axis": 1}, outputs=2),
    Case("Split", layers="Slice Split Split", attributes={"axis": 1}, outputs=2),
    Case("Split", layers="Slice Split Split", attributes={"axis": 3, "split": [4, 5]}, outputs=2, opset=11),
    Case("Split", layers="Slice Split Split Split", attributes={"axis": 2, "num_outputs": 3}, outputs=3, opset=18),
    Case("Slice", (IMAGE, ints(1), ints(3), ints(1)), "Slice Silence Split"),
    Case("Slice", (IMAGE, ints(-2, 1), ints(10**9, 4), ints(2, 3)), "Slice Silence Slice Silence Split"),
    Case("Slice", (IMAGE, ints(1), ints(7), ints(2), ints(2)), "Permute InnerProduct Permute"),
    Case("Slice", (IMAGE, ints(-1), ints(-100), ints(1), ints(-1)), "Convolution"),
    Case("Slice", layers="Slice Silence Split", attributes={"starts": [1], "ends": [3], "axes": [2]}, opset=9),
    Case("Gather", (IMAGE, np.int64(2)), "Slice Silence Reshape", {"axis": 1}),
    Case("Gather", (IMAGE, ints(1, 2)), "Slice Silence Split", {"axis": 3}),
    Case("Gather", (IMAGE, ints(3, 0, -1)), "Convolution", {"axis": 1}),
    Case("Gather", ((2, 3), ints(2, 0)), "InnerProduct", {"axis": 1}),
    Case("Gather", (floats(6, 5), (2, 3)), "Embed", values="rows", opencv=False),
    Case("Gather", (floats(6, 2, 3), (2, 3)), "Embed Reshape", values="rows", opencv=False),
    Case("Expand", ((2, 1, 5), ints(4, 2, 3, 5)), "Reshape Tile Tile", opencv=False),
    Case("Tile", ((2, 3), ints(2, 3)), "Tile Tile", opencv=False),
    Case("Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)), "Convolution"),
    Case("Pad", (IMAGE, ints(0, 0, 1, 1, 0, 0, 1, 1), scalar(0.5)), "Power Convolution"),
    Case("Pad", (IMAGE, ints(0, 1, 0, 0, 0, 2, 0, 0)), "Convolution"),
    Case("Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)), "", {"mode": "reflect"}),
    Case("Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 0)), "", {"mode": "edge"}),
    Case("Pad", ((1, 1, 9000), ints(0, 0, 3, 0, 0, 2)), "", {"mode": "reflect"}),
    Case("Pad", (IMAGE, ints(0, 0, 2, 0, 0, 1, 0, 3)), "", {"mode": "wrap"}, opset=19),
    Case("Pad", (IMAGE, ints(0, 0, -1, -2, 0, 0, -1, 1)), "", runtime=True),
    Case("Pad", layers="Convolution", attributes={"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, opset=9),
    Case("DepthToSpace", ((2, 8, 3, 5),), "", {"blocksize": 2}, opencv=False),
    Case("DepthToSpace", ((2, 8, 3, 5),), "", {"blocksize": 2, "mode": "CRD"}, opencv=False),
    Case("SpaceToDepth", ((2, 2, 6, 4),), "", {"blocksize": 2}, opencv=False),
    Case("CumSum", (IMAGE, np.int64(2)), ""),
    Case("CumSum", ((2, 5), np.int64(1)), "InnerProduct", {"exclusive": 1, "reverse": 1}),
]

REDUCTIONS = [
    Case(op, inputs, layers, attributes, opset=18, values=values)
    for op, inputs, layers, attributes, values in (
        ("ReduceMean", (IMAGE, ints(2, 3)), "Pooling", {}, "normal"),
        ("ReduceMean", (IMAGE, ints(2, 3)), "Pooling Flatten", {"keepdims": 0}, "normal"),
        ("ReduceMean", (IMAGE, ints(1)), "Permute Reduction Reshape", {}, "normal"),
        ("ReduceMean", (IMAGE,), "Reduction Reshape", {}, "normal"),
        ("ReduceSum", (IMAGE, ints(1, 2, 3)), "Reduction", {"keepdims": 0}, "normal"),
        ("ReduceSum", (IMAGE, ints(-1)), "Reduction Reshape", {}, "normal"),
        ("ReduceL1", (IMAGE, ints(3)), "Reduction", {"keepdims": 0}, "normal"),
        ("ReduceL2", (IMAGE, ints(1)), "", {}, "normal"),
        ("ReduceSumSquare", (IMAGE, ints(2)), "", {}, "normal"),
        ("ReduceMax", (IMAGE, ints(2, 3)), "Pooling", {}, "normal"),
        ("ReduceMax", (IMAGE, ints(1)), "", {"keepdims": 0}, "normal"),
        ("ReduceMin", (IMAGE, ints(3)), "", {}, "normal"),
    )
] + [
    Case("ReduceMean", layers="Pooling Flatten", attributes={"axes": [2, 3], "keepdims": 0}, opset=13),
    Case("ArgMax", layers="ArgMax", attributes={"axis": 1}, opencv=False, result=INT64),
    Case("ArgMax", layers="ArgMax Reshape", attributes={"axis": 3, "keepdims": 0}, opencv=False, result=INT64),
    Case("ArgMin", layers="Power ArgMax", attributes={"axis": 2}, opencv=False, result=INT64),
    Case("TopK", (IMAGE, ints(3)), "ArgMax ArgMax", {"axis": 1}, outputs=2, opencv=False),
    Case("TopK", (IMAGE, ints(2)), "Power ArgMax Power ArgMax", {"largest": 0}, outputs=2, opencv=False),
]

NORMALIZATIONS = [
    Case("BatchNormalization", (IMAGE, floats(4), floats(4), floats(4), np.abs(floats(4)) + 0.1), "BatchNorm Scale"),
    Case("BatchNormalization", (IMAGE, np.ones(4, "f4"), np.zeros(4, "f4"), floats(4), np.abs(floats(4)) + 0.1),
         "BatchNorm", {"epsilon": 1e-3}),
    Case("BatchNormalization", ((3, 4), floats(4), floats(4), floats(4), np.abs(floats(4)) + 0.1), "BatchNorm Scale"),
    Case("InstanceNormalization", (IMAGE, floats(4), floats(4)), "", {"epsilon": 1e-2}),
    Case("LayerNormalization", ((2, 5, 8), floats(8), floats(8)), ""),
    Case("LayerNormalization", (IMAGE, floats(7, 9)), "", {"axis": 2, "epsilon": 1e-2}),
    Case("GroupNormalization", (IMAGE, floats(4), floats(4)), "", {"num_groups": 2}, opset=21),
    Case("MeanVarianceNormalization", layers="MVN", attributes={"axes": [2, 3]}),
    Case("MeanVarianceNormalization", layers="MVN", attributes={"axes": [1, 2, 3]}),
    Case("LRN", layers="LRN", attributes={"size": 3, "alpha": 0.4, "beta": 0.6}, runtime=True),
    Case("LRN", layers="LRN", attributes={"size": 5, "bias": 2.0}, opencv=False, runtime=True),
    Case("Softmax", layers="Softmax", attributes={"axis": 1}),
    Case("Softmax", layers="Softmax"),
    Case("Softmax", ((2, 3, 4),), "Flatten Softmax Reshape", {"axis": 1}, opset=11, runtime=True),
    Case("Softmax", ((2, 3),), "Softmax", opset=11),
    Case("LogSoftmax", layers="Softmax Log", attributes={"axis": 1}),
    Case("LpNormalization", layers="Normalize", attributes={"axis": 1}),
]  # fmt: skip


def resized(height: float, width: float, layers: str = "", shape: Any = (1, 2, 4, 5), **attributes: Any) -> Case:
    return Case("Resize", (shape, None, np.array([1, 1, height, width], "f4")), layers, attributes, opset=19)


def sized(height: int, width: int, layers: str = "", **attributes: Any) -> Case:
    return Case("Resize", ((1, 2, 4, 5), None, None, ints(1, 2, height, width)), layers, attributes, opset=19)


MATRICES = "InnerProduct Permute InnerProduct Permute"
RESIZES = [
    resized(2, 2, "Deconvolution"),
    resized(3, 2, "Deconvolution", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(1.5, 1.6, "", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(2, 2, "", mode="linear"),
    resized(0.5, 0.6, "", mode="linear"),
    resized(2, 2, "Interp", mode="linear", coordinate_transformation_mode="align_corners"),
    resized(2, 2, "", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    resized(2, 1, "", mode="cubic", cubic_coeff_a=-0.75),
    sized(7, 3, "", mode="linear"),
    sized(8, 10, "Deconvolution"),
    sized(9, 12, "", mode="linear", antialias=1),
    resized(1.5, 0.7, "", mode="cubic", exclude_outside=1),
    resized(1.3, 2.2, "", mode="linear", coordinate_transformation_mode="half_pixel_symmetric"),
    resized(1.7, 2.2, "", nearest_mode="ceil"),
    resized(1.7, 2.2, "", nearest_mode="round_prefer_ceil", coordinate_transformation_mode="align_corners"),
    sized(1, 9, "", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    Case("Upsample", ((1, 2, 4, 5), np.array([1, 1, 2, 3], "f4")), "Deconvolution", {"mode": "nearest"}, opset=9),
    Case(
        "Upsample",
        ((1, 2, 4, 5),),
        "Deconvolution",
        {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]},
        opset=7,
        runtime=True,
    ),
]

LOGIC = [
    Case(op, inputs, layers, opencv=False, values="ties", result=BOOL)
    for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal")
    for inputs, layers in (
        ((IMAGE, scalar(1)), ""), ((scalar(1), IMAGE), ""), ((IMAGE, IMAGE), ""),
        ((IMAGE, np.ones((4, 1, 1), "f4")), ""),
    )
]  # fmt: skip

LSTM_WEIGHTS = (floats(1, 12, 5), floats(1, 12, 3, seed=6), floats(1, 24, seed=7))
BOTH_WEIGHTS = (floats(2, 12, 5), floats(2, 12, 3, seed=6), floats(2, 24, seed=7))
RECURRENT = [
    Case("LSTM", ((6, 2, 5), *LSTM_WEIGHTS), "", {"hidden_size": 3}, outputs=2, opencv=False),
    Case("LSTM", ((6, 2, 5), *LSTM_WEIGHTS), "", {"hidden_size": 3, "direction": "reverse"}, outputs=2, opencv=False),
    Case("LSTM", ((6, 2, 5), *LSTM_WEIGHTS[:2]), "", {"hidden_size": 3}, opencv=False),
    Case("LSTM", ((4, 1, 5), *BOTH_WEIGHTS, None, np.zeros((2, 1, 3), "f4"), np.zeros((2, 1, 3), "f4")), "",
         {"hidden_size": 3, "direction": "bidirectional"}, outputs=2, opencv=False),
]  # fmt: skip

CASES = [
    *ACTIVATIONS, *SUMS, *PRODUCTS, *POOLS, *SHAPES, *REDUCTIONS, *NORMALIZATIONS, *RESIZES, *LOGIC, *RECURRENT,
]  # fmt: skip


def values_of(case: Case, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    array = rng.standard_normal(shape).astype("f4")
    if case.values == "positive":
        return np.abs(array) + 0.1
    if case.values == "large":
        return 6 * array
    if case.values == "ties":
        return np.round(2 * array)
    if case.values == "rows":
        return rng.integers(0, 6, shape)
    return array


def build(case: Case) -> tuple[bytes, dict[str, Any], list[str]]:
    """The model, its inputs and the names of its outputs."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    names, inputs, constants = [], {}, {}
    for at, part in enumerate(case.inputs):
        names.append("" if part is None else f"in{at}")
        if isinstance(part, tuple):
            inputs[f"in{at}"] = values_of(case, part, rng)
        elif part is not None:
            constants[f"in{at}"] = part
    outputs = [f"out{at}" for at in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="it", **case.attributes)
    types = {name: INT64 for name, array in inputs.items() if array.dtype.kind == "i"} | {"out0": case.result}
    if case.op == "TopK":
        types["out1"] = INT64
    shapes = {name: array.shape for name, array in inputs.items()}
    return model([node], shapes, outputs, constants, opset=case.opset, types=types), inputs, outputs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_the_same(case: Case, tmp_path: Path) -> None:
    content, inputs, outputs = build(case)
    expected = run_onnx(content, inputs) if case.runtime else reference(content, inputs)
    found = written(tmp_path, content)
    if case.layers:
        assert layer_types(found) == case.layers.split()
    results = back(tmp_path, inputs)
    assert list(results) == outputs
    for name in outputs:
        # A few float32 roundings more than ONNX's own order of computing has.
        assert error(results[name], expected[name].astype("f4")) <= case.tolerance, name
    if case.opencv:
        written(tmp_path, content, **OPENCV)
        for name, result in zip(outputs, opencv(tmp_path, inputs, outputs), strict=True):
            assert error(result.reshape(expected[name].shape), expected[name].astype("f4")) <= 1e-5, name


def test_every_operator_has_a_case() -> None:
    """Those of more than one node stand in test_writer_patterns."""
    others = {"And", "Or", "Not", "Where", "Cast", "Mod", "MaxUnpool", "ScatterElements"}
    plain = {op for op in node_rules() if not op.startswith("caffe.")}
    assert {case.op for case in CASES} | others == plain
