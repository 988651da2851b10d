"""What the device computes: 8-bit integers, 32-bit sums."""

import numpy as np


def compute(op, values, weights):
    """One operator in float64; on integers it is exact, as sums stay below 2^53."""
    kind, attributes = op["op"], op["attributes"]
    x = values[0]
    if kind == "Conv":
        return _conv(x, weights[0], attributes) + (weights[1][None, :, None, None] if len(weights) > 1 else 0)
    if kind == "Gemm":
        return x @ (weights[0].T if attributes.get("transB") else weights[0]) + (weights[1] if len(weights) > 1 else 0)
    if kind == "Relu":
        return np.maximum(x, 0)
    if kind == "MaxPool":
        return _windows(x, attributes["kernel_shape"], attributes, fill=-np.inf).max(axis=(4, 5))
    if kind == "GlobalAveragePool":
        return x.mean(axis=(2, 3), keepdims=True)
    if kind == "Flatten":
        return x.reshape(int(np.prod(x.shape[: attributes.get("axis", 1)])), -1)
    if kind == "Add":
        return x + values[1]
    raise ValueError(f"no such operator: {kind}")


def keeps_scale(kind):
    """Operators whose integers mean what those of their input meant."""
    return kind in ("Relu", "MaxPool", "Flatten")


def channels_last(kind, weight, attributes):
    """A view of a weight whose first axis is the output channel, for a scale of each."""
    return weight if kind == "Conv" or attributes.get("transB") else weight.T


def requantised(sums, factor, *, board):
    """Back to 8 bits. The board rounds halves away from zero and the simulator to even."""
    scaled = sums * factor
    rounded = np.floor(np.abs(scaled) + 0.5) * np.sign(scaled) if board else np.rint(scaled)
    return np.clip(rounded, -127, 127)


def _windows(x, kernel, attributes, *, fill):
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    dilation = attributes.get("dilations") or (1, 1)
    span = [(size - 1) * step + 1 for size, step in zip(kernel, dilation)]
    strides = attributes.get("strides") or (1, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return windows[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def _conv(x, weight, attributes):
    groups = attributes.get("group", 1)
    windows = _windows(x, weight.shape[2:], attributes, fill=0)
    count, channels, height, width = windows.shape[:4]
    grouped = windows.reshape(count, groups, channels // groups, height, width, -1)
    kernels = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    columns = grouped.transpose(1, 0, 3, 4, 2, 5).reshape(groups, count * height * width, -1)
    sums = columns @ kernels.reshape(groups, kernels.shape[1], -1).transpose(0, 2, 1)
    return (
        sums.reshape(groups, count, height, width, -1)
        .transpose(1, 0, 4, 2, 3)
        .reshape(count, weight.shape[0], height, width)
    )
