"""Every layer against its definition in NumPy, and against OpenCV's reader where that follows Caffe."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_caffe.layers import rules

from plugins.caffe.tests import definitions as d
from plugins.caffe.tests.nets import error, inputs_text, run, run_opencv

IMAGE = (2, 4, 7, 9)
Expected = Callable[[list[Any], list[Any]], Any]


@dataclass(frozen=True)
class Case:
    """One layer: its settings, shapes of bottoms and blobs, and what comes out."""

    kind: str
    settings: str
    expected: Expected
    inputs: tuple[tuple[int, ...], ...] = (IMAGE,)
    blobs: tuple[tuple[int, ...], ...] = ()
    opencv: bool = False
    tops: int = 1
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.kind} {self.settings}".strip()


def plain(function: Callable[[Any], Any]) -> Expected:
    return lambda x, _: function(x[0])


def conv(*arguments: Any, **more: Any) -> Expected:
    return lambda x, b: d.convolve(x[0], b[0], b[1] if len(b) > 1 else np.zeros(len(b[0])), *arguments, **more)


def channelwise(x: Any, values: Any) -> Any:
    return x * 0 + values.reshape(1, -1, *[1] * (x.ndim - 2))


def batch_norm(x: list[Any], b: list[Any]) -> Any:
    mean, variance = channelwise(x[0], b[0] / b[2][0]), channelwise(x[0], b[1] / b[2][0])
    return (x[0] - mean) / np.sqrt(variance + 1e-3)


def normalize(x: Any, axes: tuple[int, ...], scale: Any) -> Any:
    return x / np.sqrt((x**2).sum(axis=axes, keepdims=True) + 1e-10) * scale


CONVOLUTIONS = [
    Case("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }", conv(), blobs=((6, 4, 3, 3), (6,)),
         opencv=True),
    Case("Convolution", "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 "
         "pad_w: 0 bias_term: false }", conv((2, 1), (1, 0)), blobs=((6, 4, 3, 2),), opencv=True),
    Case("Convolution", "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 pad: 2 "
         "dilation: 2 group: 2 }", conv((1, 2), (2, 2), 2, 2), blobs=((4, 2, 3, 2), (4,)), opencv=True),
    Case("DepthwiseConvolution", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }",
         conv((1, 1), (1, 1), 1, 4), blobs=((4, 1, 3, 3), (4,))),
    Case("ConvolutionDepthwise", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 }",
         conv((2, 2), (0, 0), 1, 4), blobs=((4, 1, 3, 3), (4,)), opencv=False),
    Case("Deconvolution", "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }",
         lambda x, b: d.deconvolve(x[0], b[0], b[1], 2, 1), blobs=((4, 3, 4, 4), (3,)), opencv=True),
    Case("Deconvolution", "convolution_param { num_output: 6 kernel_size: 3 stride: 3 group: 2 bias_term: false }",
         lambda x, b: d.deconvolve(x[0], b[0], np.zeros(6), 3, 0, 2), blobs=((4, 3, 3, 3),), opencv=True),
    Case("InnerProduct", "inner_product_param { num_output: 5 }",
         lambda x, b: x[0].reshape(2, -1) @ b[0].T + b[1], blobs=((5, 252), (5,)), opencv=True),
    Case("InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }",
         lambda x, b: x[0].reshape(2, -1) @ b[0], blobs=((252, 5),)),
    Case("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }",
         lambda x, b: x[0].reshape(2, 4, -1) @ b[0].T + b[1], blobs=((5, 63), (5,)), opencv=True),
]  # fmt: skip

POOLINGS = [
    Case("Pooling", f"pooling_param {{ pool: {'AVE' if mean else 'MAX'} kernel_size: {k} stride: {s} pad: {p} "
         f"{'' if ceil else 'round_mode: FLOOR '}}}",
         plain(lambda x, k=k, s=s, p=p, ceil=ceil, mean=mean: d.pool(x, k, s, p, ceil=ceil, mean=mean)),
         inputs=(shape,), opencv=ceil)
    for mean in (False, True)
    for ceil in (True, False)
    for k, s, p in ((2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 2, 1), (5, 3, 2), (3, 3, 1))
    for shape in ((1, 2, 7, 9), (1, 2, 8, 6))
] + [
    Case("Pooling", "pooling_param { pool: MAX global_pooling: true }",
         plain(lambda x: x.max(axis=(2, 3), keepdims=True)), opencv=True),
    Case("Pooling", "pooling_param { pool: AVE global_pooling: true }",
         plain(lambda x: x.mean(axis=(2, 3), keepdims=True)), opencv=True),
    Case("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 ceil_mode: false }",
         plain(lambda x: d.pool(x, 2, 2, ceil=False))),
    Case("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
         plain(lambda x: (d.pool(x, 2, 2), d.pool_mask(x, 2, 2))), tops=2),
]  # fmt: skip

ACTIVATIONS = [
    Case("ReLU", "", plain(lambda x: np.maximum(x, 0)), opencv=True),
    Case("ReLU", "relu_param { negative_slope: 0.3 }", plain(lambda x: np.where(x > 0, x, 0.3 * x)), opencv=True),
    Case("PReLU", "", lambda x, b: np.where(x[0] > 0, x[0], channelwise(x[0], b[0]) * x[0]), blobs=((4,),),
         opencv=True),
    Case("PReLU", "prelu_param { channel_shared: true }",
         lambda x, b: np.where(x[0] > 0, x[0], b[0].ravel()[0] * x[0]), blobs=((1,),)),
    Case("PReLU", "", lambda x, b: np.where(x[0] > 0, x[0], b[0] * x[0]), inputs=((2, 6),), blobs=((6,),)),
    Case("ELU", "elu_param { alpha: 0.7 }", plain(lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))), opencv=False),
    Case("Sigmoid", "", plain(lambda x: 1 / (1 + np.exp(-x))), opencv=True),
    Case("TanH", "", plain(np.tanh), opencv=True),
    Case("AbsVal", "", plain(np.abs), opencv=True),
    Case("BNLL", "", plain(lambda x: np.logaddexp(0, 60 * x / 60)), opencv=True),
    Case("Power", "power_param { power: 2 scale: 0.5 shift: 3 }", plain(lambda x: (3 + 0.5 * x) ** 2), opencv=True),
    Case("Power", "power_param { scale: -1 shift: 1 }", plain(lambda x: 1 - x), opencv=True),
    Case("Power", "power_param { power: 0.5 scale: 0 shift: 4 }", plain(lambda x: x * 0 + 2)),
    Case("Power", "power_param { power: 0 shift: 4 }", plain(lambda x: x * 0 + 1)),
    Case("Exp", "", plain(np.exp), opencv=True),
    Case("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", plain(lambda x: 2 ** (1 + 0.5 * x)), opencv=True),
    Case("Log", "", plain(np.log), values="positive", opencv=True),
    Case("Log", "log_param { base: 10 scale: 2 shift: 1 }", plain(lambda x: np.log10(1 + 2 * x)), values="positive"),
    Case("Swish", "swish_param { beta: 1.5 }", plain(lambda x: x / (1 + np.exp(-1.5 * x)))),
    Case("Clip", "clip_param { min: -0.5 max: 0.25 }", plain(lambda x: np.clip(x, -0.5, 0.25))),
    Case("ReLU6", "", plain(lambda x: np.clip(x, 0, 6)), values="large", opencv=True),
    Case("Threshold", "threshold_param { threshold: 0.2 }", plain(lambda x: (x > np.float32(0.2)).astype(float))),
    Case("Dropout", "dropout_param { dropout_ratio: 0.9 }", plain(lambda x: x)),
]  # fmt: skip

TWO = (IMAGE, IMAGE)
ARITHMETIC = [
    Case("Eltwise", "", lambda x, _: x[0] + x[1], inputs=TWO, opencv=True),
    Case("Eltwise", "eltwise_param { coeff: 2 coeff: -0.5 coeff: 1 }", lambda x, _: 2 * x[0] - 0.5 * x[1] + x[2],
         inputs=(IMAGE,) * 3, opencv=True),
    Case("Eltwise", "eltwise_param { operation: PROD }", lambda x, _: x[0] * x[1], inputs=TWO, opencv=True),
    Case("Eltwise", "eltwise_param { operation: MAX }", lambda x, _: np.maximum(x[0], x[1]), inputs=TWO, opencv=True),
    Case("Scale", "", lambda x, b: x[0] * channelwise(x[0], b[0]), blobs=((4,),), opencv=True),
    Case("Scale", "scale_param { bias_term: true }",
         lambda x, b: x[0] * channelwise(x[0], b[0]) + channelwise(x[0], b[1]), blobs=((4,), (4,)), opencv=True),
    Case("Scale", "scale_param { axis: 2 num_axes: -1 }", lambda x, b: x[0] * b[0], blobs=((7, 9),)),
    Case("Scale", "scale_param { num_axes: 0 bias_term: true }", lambda x, b: x[0] * b[0] + b[1], blobs=((), ())),
    Case("Scale", "scale_param { axis: 0 }", lambda x, _: x[0] * x[1][..., None, None], inputs=(IMAGE, (2, 4))),
    Case("Scale", "scale_param { axis: 0 bias_term: true }",
         lambda x, b: (x[0] * x[1][..., None, None]) + b[0][..., None, None], inputs=(IMAGE, (2, 4)), blobs=((2, 4),)),
    Case("Bias", "", lambda x, b: x[0] + channelwise(x[0], b[0]), blobs=((4,),)),
    Case("Bias", "bias_param { axis: 2 }", lambda x, _: x[0] + x[1], inputs=(IMAGE, (7, 9))),
    Case("Softmax", "", plain(lambda x: d.softmax(x, 1)), opencv=True),
    Case("Softmax", "softmax_param { axis: -1 }", plain(lambda x: d.softmax(x, 3)), opencv=True),
    Case("Reduction", "reduction_param { axis: 1 coeff: 0.5 }", plain(lambda x: 0.5 * x.sum(axis=(1, 2, 3)))),
    Case("Reduction", "reduction_param { operation: ASUM axis: -1 }", plain(lambda x: np.abs(x).sum(axis=3))),
    Case("Reduction", "reduction_param { operation: SUMSQ axis: 2 }", plain(lambda x: (x**2).sum(axis=(2, 3)))),
    Case("Reduction", "reduction_param { operation: MEAN }", plain(np.mean)),
    Case("ArgMax", "argmax_param { axis: -1 top_k: 3 }", plain(lambda x: d.arg_max(x, 3)[0]), values="ties"),
    Case("ArgMax", "argmax_param { axis: 3 top_k: 3 out_max_val: true }", plain(lambda x: d.arg_max(x, 3)[1]),
         values="ties"),
    Case("ArgMax", "argmax_param { top_k: 4 }", plain(lambda x: d.arg_max(x.reshape(2, 1, -1), 4)[0]), values="ties"),
    Case("ArgMax", "argmax_param { top_k: 4 out_max_val: true }",
         plain(lambda x: np.concatenate(d.arg_max(x.reshape(2, 1, -1), 4), axis=1)), values="ties"),
    Case("BatchNorm", "batch_norm_param { eps: 1e-3 }", batch_norm, blobs=((4,), (4,), (1,)), values="positive",
         opencv=True),
    Case("BatchNorm", "batch_norm_param { use_global_stats: false }",
         plain(lambda x: (x - x.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True)
                                                                             + 1e-5)), blobs=((4,), (4,), (1,))),
    Case("MVN", "", plain(lambda x: d.mvn(x, (2, 3), 1e-9)), opencv=True),
    Case("MVN", "mvn_param { across_channels: true eps: 0.1 }", plain(lambda x: d.mvn(x, (1, 2, 3), 0.1))),
    Case("MVN", "mvn_param { normalize_variance: false }", plain(lambda x: d.mvn(x, (2, 3), 0, False)), opencv=True),
    Case("Normalize", "norm_param { }", lambda x, b: normalize(x[0], (1, 2, 3), b[0]), blobs=((1,),)),
    Case("Normalize", "norm_param { across_spatial: false channel_shared: false }",
         lambda x, b: normalize(x[0], (1,), b[0].reshape(1, -1, 1, 1)), blobs=((4,),), opencv=True),
    Case("LRN", "lrn_param { local_size: 3 alpha: 0.4 beta: 0.6 }", plain(lambda x: d.lrn_across(x, 3, 0.4, 0.6, 1)),
         opencv=True),
    Case("LRN", "lrn_param { local_size: 5 alpha: 0.4 k: 2 }", plain(lambda x: d.lrn_across(x, 5, 0.4, 0.75, 2))),
    Case("LRN", "lrn_param { local_size: 3 alpha: 0.4 norm_region: WITHIN_CHANNEL k: 3 }",
         plain(lambda x: d.lrn_within(x, 3, 0.4, 0.75)), opencv=True),
]  # fmt: skip

SHAPES = [
    Case("Concat", "", lambda x, _: np.concatenate(x, 1), inputs=(IMAGE, (2, 1, 7, 9)), opencv=True),
    Case("Concat", "concat_param { axis: -1 }", lambda x, _: np.concatenate(x, 3), inputs=TWO, opencv=True),
    Case("Concat", "concat_param { concat_dim: 0 }", lambda x, _: np.concatenate(x, 0), inputs=TWO),
    Case("Slice", "", plain(lambda x: tuple(np.split(x, 2, axis=1))), tops=2),
    Case("Slice", "slice_param { axis: 3 slice_point: 2 slice_point: 3 }",
         plain(lambda x: tuple(np.split(x, [2, 3], axis=3))), tops=3),
    Case("Split", "", plain(lambda x: (x, x)), tops=2),
    Case("Flatten", "", plain(lambda x: x.reshape(2, -1)), opencv=True),
    Case("Flatten", "flatten_param { axis: 1 end_axis: 2 }", plain(lambda x: x.reshape(2, 28, 9)), opencv=True),
    Case("Flatten", "flatten_param { axis: -2 }", plain(lambda x: x.reshape(2, 4, 63)), opencv=True),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", plain(lambda x: x.reshape(2, -1, 3)),
         opencv=True),
    Case("Reshape", "reshape_param { axis: 1 num_axes: 2 shape { dim: 2 dim: -1 } }",
         plain(lambda x: x.reshape(2, 2, 14, 9)), opencv=True),
    Case("Reshape", "reshape_param { axis: -1 num_axes: 0 shape { dim: 1 } }", plain(lambda x: x[..., None])),
    Case("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", plain(lambda x: x.transpose(0, 2, 3, 1)),
         opencv=True),
    Case("Permute", "permute_param { order: 2 }", plain(lambda x: x.transpose(2, 0, 1, 3))),
    Case("Crop", "crop_param { offset: 1 }", lambda x, _: x[0][:, :, 1:4, 1:6], inputs=(IMAGE, (2, 4, 3, 5)),
         opencv=True),
    Case("Crop", "crop_param { axis: -3 offset: 2 offset: 0 offset: 4 }", lambda x, _: x[0][:, 2:4, :3, 4:9],
         inputs=(IMAGE, (2, 2, 3, 5))),
    Case("Tile", "tile_param { axis: 2 tiles: 3 }", plain(lambda x: np.tile(x, (1, 1, 3, 1)))),
    Case("Embed", "embed_param { input_dim: 5 num_output: 3 }", lambda x, b: b[0][x[0].astype(int)] + b[1],
         inputs=((2, 4),), blobs=((5, 3), (3,)), values="rows"),
    Case("Embed", "embed_param { input_dim: 5 num_output: 3 bias_term: false }", lambda x, b: b[0][x[0].astype(int)],
         inputs=((2, 4),), blobs=((5, 3),), values="rows"),
    Case("Interp", "interp_param { height: 13 width: 5 }", plain(lambda x: d.bilinear(x, 13, 5)), opencv=True),
    Case("Interp", "interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }",
         plain(lambda x: d.bilinear(x[:, :, 1:-2, 1:-2], 7, 11))),
    Case("Interp", "interp_param { shrink_factor: 2 }", plain(lambda x: d.bilinear(x, 4, 5))),
    Case("Upsample", "upsample_param { scale: 2 }", plain(lambda x: x.repeat(2, axis=2).repeat(2, axis=3))),
    Case("Upsample", "upsample_param { scale: 2 pad_out_h: true }",
         lambda x, _: d.unpool(x[0], x[1], 5, 8), inputs=((1, 2, 3, 4), (1, 2, 3, 4)), values="places"),
]  # fmt: skip

RECURRENT = [
    Case("LSTM", "recurrent_param { num_output: 3 }", lambda x, b: d.lstm(x[0], x[1], b), inputs=((6, 2, 4), (6, 2)),
         blobs=((12, 4), (12,), (12, 3)), values="sequences"),
    Case("LSTM", "recurrent_param { num_output: 3 } ", lambda x, b: d.lstm(x[0], x[1], b, x[2]),
         inputs=((5, 2, 2, 2), (5, 2), (2, 7)), blobs=((12, 4), (12,), (12, 7), (12, 3)), values="sequences"),
]  # fmt: skip

CASES = [*RECURRENT, *CONVOLUTIONS, *POOLINGS, *ACTIVATIONS, *ARITHMETIC, *SHAPES]


def arrays(case: Case) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    blobs = [rng.standard_normal(shape).astype("float32") for shape in case.blobs]
    inputs = [rng.standard_normal(shape).astype("float32") for shape in case.inputs]
    if case.values == "positive":
        inputs, blobs = [np.abs(x) + 0.1 for x in inputs], [np.abs(b) + 0.5 for b in blobs]
    elif case.values == "large":
        inputs = [10 * x for x in inputs]
    elif case.values == "ties":
        inputs = [np.round(2 * x) for x in inputs]
    elif case.values == "rows":
        inputs = [rng.integers(0, 5, shape).astype("float32") for shape in case.inputs]
    elif case.values == "sequences":
        # Sequences end at places of their own.
        inputs[1] = rng.integers(0, 2, case.inputs[1]).astype("float32")
    elif case.values == "places":
        inputs[1] = np.stack([rng.permutation(40)[:12] for _ in range(2)]).reshape(case.inputs[1]).astype("float32")
    return inputs, blobs


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_its_definition(case: Case, tmp_path: Path) -> None:
    inputs, blobs = arrays(case)
    bottoms = "".join(f'bottom: "in{at}" ' for at in range(len(inputs)))
    tops = "".join(f'top: "out{at}" ' for at in range(case.tops))
    text = inputs_text(case.inputs) + f'layer {{ name: "it" type: "{case.kind}" {bottoms}{tops}{case.settings} }}\n'
    named = {f"in{at}": array for at, array in enumerate(inputs)}
    found = run(tmp_path, text, {"it": blobs}, named)
    exact = case.expected([x.astype("float64") for x in inputs], [b.astype("float64") for b in blobs])
    expected = exact if isinstance(exact, tuple) else (exact,)
    assert list(found) == [f"out{at}" for at in range(case.tops)]
    for at, reference in enumerate(expected):
        # A few float32 roundings of sums of up to 252 terms.
        assert error(found[f"out{at}"], np.asarray(reference)) <= 3e-6
    if case.opencv:
        assert error(run_opencv(tmp_path, named).reshape(found["out0"].shape), found["out0"]) <= 1e-5


def test_every_layer_has_a_case() -> None:
    assert {case.kind for case in CASES} | {"PriorBox", "DetectionOutput"} == set(rules())
