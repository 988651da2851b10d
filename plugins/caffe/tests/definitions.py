"""The layers' definitions in NumPy: loops over the formulas, double precision, no regard for speed."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np


def windows(shape: tuple[int, ...], kernel: int, stride: int, pad: int, ceil: bool) -> list[list[tuple[int, int]]]:
    """Start and end of each pooling window along H and W, before clipping to the image but within image and padding."""
    found = []
    for size in shape[2:]:
        exact = (size + 2 * pad - kernel) / stride
        count = int(math.ceil(exact) if ceil else math.floor(exact)) + 1
        if pad and (count - 1) * stride >= size + pad:
            count -= 1
        starts = [at * stride - pad for at in range(count)]
        found.append([(start, min(start + kernel, size + pad)) for start in starts])
    return found


def pool(x: Any, kernel: int, stride: int = 1, pad: int = 0, *, ceil: bool = True, mean: bool = False) -> Any:
    rows, columns = windows(x.shape, kernel, stride, pad, ceil)
    out = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for (i, (top, bottom)), (j, (left, right)) in product(enumerate(rows), enumerate(columns)):
        inside = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
        if mean:
            out[:, :, i, j] = inside.sum(axis=(2, 3)) / ((bottom - top) * (right - left))
        else:
            out[:, :, i, j] = inside.max(axis=(2, 3))
    return out


def pool_mask(x: Any, kernel: int, stride: int) -> Any:
    """Places of the maxima, counted within the plane."""
    rows, columns = windows(x.shape, kernel, stride, 0, True)
    out = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for n, c, i, j in np.ndindex(*out.shape):
        (top, bottom), (left, right) = rows[i], columns[j]
        inside = x[n, c, top:bottom, left : min(right, x.shape[3])]
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        out[n, c, i, j] = (top + row) * x.shape[3] + left + column
    return out


def convolve(x: Any, w: Any, b: Any, stride: Any = (1, 1), pad: Any = (0, 0), dilation: int = 1, group: int = 1) -> Any:
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    reach = [dilation * (k - 1) + 1 for k in w.shape[2:]]
    sizes = [(size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    per = w.shape[0] // group
    for o, i, j in np.ndindex(w.shape[0], *sizes):
        first = (o // per) * w.shape[1]
        top, left = i * stride[0], j * stride[1]
        patch = x[:, first : first + w.shape[1], top : top + reach[0] : dilation, left : left + reach[1] : dilation]
        out[:, o, i, j] = (patch * w[o]).sum(axis=(1, 2, 3)) + b[o]
    return out


def deconvolve(x: Any, w: Any, b: Any, stride: int = 1, pad: int = 0, group: int = 1) -> Any:
    """Each input value adds its kernel to the output."""
    n, channels, height, width = x.shape
    kernel, per = w.shape[2], w.shape[1]
    full = np.zeros((n, per * group, (height - 1) * stride + kernel, (width - 1) * stride + kernel))
    for c, i, j in np.ndindex(channels, height, width):
        first = (c // (channels // group)) * per
        where = full[:, first : first + per, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        where += x[:, c, i, j][:, None, None, None] * w[c]
    return full[:, :, pad : full.shape[2] - pad, pad : full.shape[3] - pad] + b[:, None, None]


def lrn_across(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    out = np.zeros_like(x)
    for c in range(x.shape[1]):
        around = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        out[:, c] = x[:, c] * (k + alpha / size * (around**2).sum(axis=1)) ** -beta
    return out


def lrn_within(x: Any, size: int, alpha: float, beta: float) -> Any:
    return x * (1 + alpha * pool(x**2, size, 1, (size - 1) // 2, mean=True)) ** -beta


def softmax(x: Any, axis: int) -> Any:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def mvn(x: Any, axes: tuple[int, ...], eps: float, variance: bool = True) -> Any:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / (np.sqrt((centred**2).mean(axis=axes, keepdims=True)) + eps) if variance else centred


def arg_max(x: Any, count: int) -> tuple[Any, Any]:
    """Places and values of the greatest along the last axis; of equals the last place comes first."""
    order = np.stack([
        np.array(sorted(range(row.size), key=lambda at, row=row: (-row[at], -at))[:count])
        for row in x.reshape(-1, x.shape[-1])
    ]).reshape(*x.shape[:-1], count)  # fmt: skip
    return order.astype(float), np.take_along_axis(x, order, axis=-1)


def bilinear(x: Any, height: int, width: int) -> Any:
    """Corners' centres stay."""
    out = np.zeros((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        row = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0
        column = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0
        top, left = int(row), int(column)
        low, right = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
        a, b = row - top, column - left
        upper = (1 - b) * x[:, :, top, left] + b * x[:, :, top, right]
        lower = (1 - b) * x[:, :, low, left] + b * x[:, :, low, right]
        out[:, :, i, j] = (1 - a) * upper + a * lower
    return out


def unpool(x: Any, mask: Any, height: int, width: int) -> Any:
    out = np.zeros((*x.shape[:2], height * width))
    for n, c, i, j in np.ndindex(*x.shape):
        out[n, c, int(mask[n, c, i, j])] = x[n, c, i, j]
    return out.reshape(*x.shape[:2], height, width)


def priors(
    cells: tuple[int, int], image: tuple[int, int], smallest: list[int], largest: list[int], ratios: list[float],
    variance: list[float], *, clip: bool = False, step: float = 0, offset: float = 0.5,
) -> Any:  # fmt: skip
    """Box by box, in the order of the SSD paper's code."""
    boxes: list[float] = []
    high, wide = (step or image[0] / cells[0]), (step or image[1] / cells[1])
    for i, j in np.ndindex(*cells):
        y, x = (i + offset) * high, (j + offset) * wide
        for at, size in enumerate(smallest):
            shapes = [(size, size)]
            if largest:
                shapes.append((math.sqrt(size * largest[at]),) * 2)
            shapes += [(size * math.sqrt(r), size / math.sqrt(r)) for ratio in ratios for r in (ratio, 1 / ratio)]
            for w, h in shapes:
                box = [(x - w / 2) / image[1], (y - h / 2) / image[0], (x + w / 2) / image[1], (y + h / 2) / image[0]]
                boxes += [min(max(value, 0), 1) if clip else value for value in box]
    return np.array([[boxes, variance * (len(boxes) // 4)]])


def overlap(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def decode(offset: Any, prior: Any, variance: Any, code: str) -> list[float]:
    v = offset * variance
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CORNER":
        return [float(p + d) for p, d in zip(prior, v, strict=True)]
    if code == "CORNER_SIZE":
        return [float(p + d * e) for p, d, e in zip(prior, v, (width, height, width, height), strict=True)]
    x, y = v[0] * width + (prior[0] + prior[2]) / 2, v[1] * height + (prior[1] + prior[3]) / 2
    w, h = math.exp(v[2]) * width / 2, math.exp(v[3]) * height / 2
    return [float(x - w), float(y - h), float(x + w), float(y + h)]


def detections(
    loc: Any, conf: Any, prior: Any, classes: int, *, code: str, threshold: float, top: int, keep: int,
    nms: float, shared: bool = True, encoded: bool = False,
) -> Any:  # fmt: skip
    """Class 0 is the background."""
    rows: list[list[float]] = []
    count = prior.shape[2] // 4
    boxes, variances = prior[0, 0].reshape(count, 4), prior[0, 1].reshape(count, 4)
    for image in range(loc.shape[0]):
        scores = conf[image].reshape(count, classes)
        offsets = loc[image].reshape(count, 1 if shared else classes, 4)
        found: list[list[float]] = []
        for label in range(1, classes):
            best = sorted(
                (at for at in range(count) if scores[at, label] > threshold), key=lambda at: -scores[at, label]
            )
            kept: list[list[float]] = []
            for at in best[:top] if top > 0 else best:
                scale = np.ones(4) if encoded else variances[at]
                box = decode(offsets[at, 0 if shared else label], boxes[at], scale, code)
                if all(overlap(box, other[3:]) <= nms for other in kept):
                    kept.append([image, label, scores[at, label], *box])
            found += kept
        if 0 <= keep < len(found):
            limit = sorted((row[2] for row in found), reverse=True)[keep - 1] if keep else np.inf
            found = [row for row in found if row[2] >= limit]
        rows += found
    return np.array(rows or [[image, *[-1] * 6] for image in range(loc.shape[0])], float)[None, None]


def lstm(x: Any, cont: Any, blobs: list[Any], static: Any = None) -> Any:
    """Gates in the order i, f, o, g."""
    hidden_weights = blobs[-1]
    units = hidden_weights.shape[1]
    h = c = np.zeros((x.shape[1], units))
    out = []
    for t in range(x.shape[0]):
        go_on = cont[t][:, None]
        gates = x[t].reshape(x.shape[1], -1) @ blobs[0].T + blobs[1] + (go_on * h) @ hidden_weights.T
        if static is not None:
            gates = gates + static @ blobs[2].T
        i, f, o = (1 / (1 + np.exp(-gates[:, at * units : (at + 1) * units])) for at in range(3))
        c = go_on * f * c + i * np.tanh(gates[:, 3 * units :])
        h = o * np.tanh(c)
        out.append(h)
    return np.stack(out)
