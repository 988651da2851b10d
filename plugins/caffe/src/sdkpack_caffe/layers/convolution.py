"""Convolution, Deconvolution and InnerProduct: layers whose work is a matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Shape, Value

__all__ = ["RULES", "along_axes"]


def along_axes(message: Any, name: str, axes: int, default: int | None) -> list[int]:
    """A setting for each spatial axis: the pair `name_h`, `name_w` where it is given, else `name` once or for each.

    Raises:
        LayerError: neither is given and there is no default, or of another number.
    """
    # The kernel's pair is called kernel_h, its list kernel_size.
    pair = [f"{name.removesuffix('_size')}_{letter}" for letter in "hw"]
    if all(part in message.DESCRIPTOR.fields_by_name for part in pair) and any(map(message.HasField, pair)):
        if axes != 2:
            raise LayerError(f"{pair[0]} and {pair[1]} need two spatial axes", got=str(axes))
        return [int(getattr(message, part)) for part in pair]
    field = message.DESCRIPTOR.fields_by_name[name]
    if not hasattr(getattr(message, name), "__len__"):
        values = [int(getattr(message, name))] if message.HasField(name) or field.has_default_value else []
    else:
        values = [int(value) for value in getattr(message, name)]
    if not values and default is not None:
        values = [default]
    if len(values) not in (1, axes) or not values:
        raise LayerError(f"{name} has the wrong number of values", got=str(values), expected=f"1 or {axes} values")
    return values * axes if len(values) == 1 else values


def _geometry(scope: Scope, shape: Shape) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, stride, pad and dilation of each spatial axis."""
    message = scope.fields.convolution_param
    if scope.axis(message.axis, len(shape)) != 1 or len(shape) < 3:
        raise LayerError("only channels on axis 1 with at least one spatial axis", got=f"axis {message.axis} of "
                         f"{list(shape)}")  # fmt: skip
    axes = len(shape) - 2
    kernel = along_axes(message, "kernel_size", axes, None)
    stride = along_axes(message, "stride", axes, 1)
    pad = along_axes(message, "pad", axes, 0)
    dilation = along_axes(message, "dilation", axes, 1)
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        raise LayerError("kernel, stride and dilation are at least 1", got=f"{kernel}, {stride}, {dilation}")
    return kernel, stride, pad, dilation


def _groups(scope: Scope, channels: int, outputs: int, group: int) -> int:
    if group < 1 or channels % group or outputs % group or outputs < 1:
        raise LayerError("group does not divide the channels", got=f"group {group}, {channels} to {outputs} channels")
    return group


def convolution(scope: Scope) -> list[Value]:
    """out[o] = b[o] + sum over c, i of W[o, c, i] * in[c, s*x + d*i - p], each group of channels by itself.

    Size of the result: floor((in + 2p - (d(k-1) + 1)) / s) + 1. Several bottoms share the weights, one top each.
    """
    message = scope.fields.convolution_param
    return _convolve(scope, int(message.num_output), int(message.group))


def depthwise(scope: Scope) -> list[Value]:
    """As Convolution, with as many groups as the input has channels."""
    channels = scope.shape(scope.bottoms(1)[0], 3, 4, 5)[1]
    return _convolve(scope, int(scope.fields.convolution_param.num_output) or channels, channels)


def _convolve(scope: Scope, outputs: int, group: int) -> list[Value]:
    results = []
    weights: list[Value] = []
    for value in scope.bottoms(*range(1, 1 + max(1, len(scope.layer.tops)))):
        shape = scope.shape(value)
        kernel, stride, pad, dilation = _geometry(scope, shape)
        group = _groups(scope, shape[1], outputs, group)
        sizes = [
            (size + 2 * p - (d * (k - 1) + 1)) // s + 1
            for size, k, s, p, d in zip(shape[2:], kernel, stride, pad, dilation, strict=True)
        ]
        weights = weights or _weights(scope, (outputs, shape[1] // group, *kernel), outputs)
        results.append(
            scope.emit("Conv", [value, *weights], (shape[0], outputs, *sizes), kernel_shape=kernel, strides=stride,
                       pads=[*pad, *pad], dilations=dilation, group=group)
        )  # fmt: skip
    return results


def _weights(scope: Scope, shape: Sequence[int], outputs: int) -> list[Value]:
    weights = [scope.constant(scope.blob(0, shape, "weights"), "weight")]
    if scope.fields.convolution_param.bias_term:
        weights.append(scope.constant(scope.blob(1, [outputs], "bias"), "bias"))
    return weights


def deconvolution(scope: Scope) -> list[Value]:
    """The transpose of Convolution; weights (in, out / group, k...). Size: s(in - 1) + d(k - 1) + 1 - 2p."""
    message = scope.fields.convolution_param
    value = scope.one()
    shape = scope.shape(value)
    outputs = int(message.num_output)
    kernel, stride, pad, dilation = _geometry(scope, shape)
    group = _groups(scope, shape[1], outputs, int(message.group))
    sizes = [
        s * (size - 1) + d * (k - 1) + 1 - 2 * p
        for size, k, s, p, d in zip(shape[2:], kernel, stride, pad, dilation, strict=True)
    ]
    weights = _weights(scope, (shape[1], outputs // group, *kernel), outputs)
    return [
        scope.emit("ConvTranspose", [value, *weights], (shape[0], outputs, *sizes), kernel_shape=kernel,
                   strides=stride, pads=[*pad, *pad], dilations=dilation, group=group)
    ]  # fmt: skip


def inner_product(scope: Scope) -> list[Value]:
    """out = x W^T + b over everything from `axis` (1) on as one vector; `transpose` says that W is stored as (K, N)."""
    message = scope.fields.inner_product_param
    value = scope.one()
    shape = scope.shape(value)
    axis = scope.axis(message.axis, len(shape))
    rows, columns, outputs = math.prod(shape[:axis]), math.prod(shape[axis:]), int(message.num_output)
    stored = (columns, outputs) if message.transpose else (outputs, columns)
    inputs = [scope.constant(scope.blob(0, stored, "weights"), "weight")]
    if message.bias_term:
        inputs.append(scope.constant(scope.blob(1, [outputs], "bias"), "bias"))
    if axis != 1 or len(shape) != 2:
        value = scope.emit("Flatten", [value], (rows, columns), axis=axis)
    result = scope.emit("Gemm", [value, *inputs], (rows, outputs), transB=int(not message.transpose))
    if axis == 1:
        return [result]
    target = (*shape[:axis], outputs)
    return [scope.reshape(result, target, target)]


RULES: Final[Rules] = {
    "Convolution": convolution,
    "ConvolutionDepthwise": depthwise,
    "DepthwiseConvolution": depthwise,
    "Deconvolution": deconvolution,
    "InnerProduct": inner_product,
}
