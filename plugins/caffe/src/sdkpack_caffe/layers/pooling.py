"""Pooling, with Caffe's own rule for the size of the result and for what an average divides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Shape, Value
from sdkpack_caffe.layers.convolution import along_axes

__all__ = ["RULES", "pool_size", "within_channel_mean"]

_MAX, _AVE = 0, 1


def pool_size(size: int, kernel: int, stride: int, pad: int, *, ceil: bool, padded: bool) -> int:
    """How many windows fit: ceil((in + 2p - k) / s) + 1, one less where the last would start behind the left pad.

    Args:
        padded: whether any axis of the layer has padding: only then is the last window looked at.
    """
    room = size + 2 * pad - kernel
    if room < 0:
        raise LayerError("its kernel is larger than the padded input", got=f"kernel {kernel}", expected=f"at most "
                         f"{size + 2 * pad}")  # fmt: skip
    found = (-(-room // stride) if ceil else room // stride) + 1
    if padded and (found - 1) * stride >= size + pad:
        found -= 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """Where the windows of both spatial axes lie."""

    kernel: list[int]
    stride: list[int]
    pad: list[int]
    sizes: list[int]
    overhang: list[int]
    """How far the last window reaches behind the input, per axis; negative where it ends before."""

    @property
    def pads(self) -> list[int]:
        return [*self.pad, *(max(0, over) for over in self.overhang)]


def _windows(scope: Scope, shape: Shape, message: Any) -> _Windows:
    stride = along_axes(message, "stride", 2, 1)
    pad = along_axes(message, "pad", 2, 0)
    kernel = along_axes(message, "kernel_size", 2, None)
    if min(kernel) < 1 or min(stride) < 1:
        raise LayerError("kernel and stride are at least 1", got=f"{kernel}, {stride}")
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise LayerError("padding is less than the kernel", got=f"pad {pad}, kernel {kernel}")
    # Forks call it ceil_mode; BVLC's round_mode says CEIL (0) or FLOOR (1).
    ceil = message.round_mode == 0 and message.ceil_mode
    return _fit(shape, kernel, stride, pad, ceil=ceil)


def _fit(shape: Shape, kernel: list[int], stride: list[int], pad: list[int], *, ceil: bool) -> _Windows:
    axes = list(zip(shape[2:], kernel, stride, pad, strict=True))
    sizes = [pool_size(size, k, s, p, ceil=ceil, padded=any(pad)) for size, k, s, p in axes]
    overhang = [(count - 1) * s + k - size - p for count, (size, k, s, p) in zip(sizes, axes, strict=True)]
    if any(over >= k for over, k in zip(overhang, kernel, strict=True)):
        raise LayerError("its last window lies outside of the input", got=f"kernel {kernel}, stride {stride}, input "
                         f"{list(shape)}")  # fmt: skip
    return _Windows(kernel=kernel, stride=stride, pad=pad, sizes=sizes, overhang=overhang)


def pooling(scope: Scope) -> list[Value]:
    """The greatest or the mean value of each window of H and W; see `pool_size` for their number.

    MAX leaves padding out. AVE divides by the part of the window within the input and its padding on both sides, so
    that padding counts and what a rounded-up last window has beyond does not. A second top of MAX is the place of each
    maximum in its plane, as a float. STOCHASTIC is refused: what it computes at inference is a weighted mean.
    """
    message = scope.fields.pooling_param
    value = scope.one()
    shape = scope.shape(value, 4)
    if message.pool not in (_MAX, _AVE):
        raise LayerError("stochastic pooling has no ONNX operator", got="STOCHASTIC", expected="MAX or AVE")
    if message.global_pooling:
        return [_global(scope, value, shape, message)]
    windows = _windows(scope, shape, message)
    if message.pool == _AVE:
        return [_average(scope, value, shape, windows)]
    return _maximum(scope, value, shape, windows)


def _global(scope: Scope, value: Value, shape: Shape, message: Any) -> Value:
    if len(scope.layer.tops) > 1:
        raise LayerError("global pooling with a mask is not supported")
    op = "GlobalMaxPool" if message.pool == _MAX else "GlobalAveragePool"
    return scope.emit(op, [value], (*shape[:2], 1, 1))


def _maximum(scope: Scope, value: Value, shape: Shape, windows: _Windows) -> list[Value]:
    result = (*shape[:2], *windows.sizes)
    attributes: dict[str, Any] = {"kernel_shape": windows.kernel, "strides": windows.stride, "pads": windows.pads}
    if scope.graph.open_sizes:
        # Sizes are open, so ONNX has to round by itself; without padding its rule is Caffe's.
        if any(windows.pad) or any(s > k for s, k in zip(windows.stride, windows.kernel, strict=True)):
            raise LayerError("this pooling needs fixed sizes", got=f"pad {windows.pad}", expected="no padding")
        message = scope.fields.pooling_param
        ceil = int(message.round_mode == 0 and message.ceil_mode)
        attributes = {"kernel_shape": windows.kernel, "strides": windows.stride, "ceil_mode": ceil}
    if len(scope.layer.tops) < 2:
        return [scope.emit("MaxPool", [value], result, **attributes)]
    best, places = scope.emit_many("MaxPool", [value], [result, result], **attributes)
    # ONNX counts through the whole tensor, Caffe within a plane.
    plane = scope.constant(shape[2] * shape[3], "plane", "int64")
    inside = scope.emit("Mod", [places, plane], result, floats=False)
    return [best, scope.emit("Cast", [inside], result, to=1)]


def _average(scope: Scope, value: Value, shape: Shape, windows: _Windows) -> Value:
    """Mean of each window by Caffe's divisor."""
    import numpy as np

    if scope.graph.open_sizes:
        raise LayerError("average pooling needs fixed sizes")
    result = scope.emit(
        "AveragePool", [value], (*shape[:2], *windows.sizes), kernel_shape=windows.kernel, strides=windows.stride,
        pads=windows.pads, count_include_pad=int(any(windows.pad)),
    )  # fmt: skip
    if not any(windows.pad) or all(o <= p for o, p in zip(windows.overhang, windows.pad, strict=True)):
        return result
    counts = [_counts(axis, shape[2 + axis], windows) for axis in (0, 1)]
    area = windows.kernel[0] * windows.kernel[1]
    divisors = np.outer(counts[0], counts[1])[None, None]
    return scope.binary("Mul", result, scope.constant(area / divisors, "divisor"))


def _counts(axis: int, size: int, windows: _Windows) -> list[int]:
    """Cells that the divisor counts, for each window along an axis."""
    kernel, stride, pad = windows.kernel[axis], windows.stride[axis], windows.pad[axis]
    starts = [number * stride - pad for number in range(windows.sizes[axis])]
    return [min(start + kernel, size + pad) - start for start in starts]


def within_channel_mean(scope: Scope, value: Value, shape: Shape, size: int) -> Value:
    """Mean over a window of `size` x `size` around each place, padding counted as zeros."""
    half = (size - 1) // 2
    return _average(scope, value, shape, _fit(shape, [size, size], [1, 1], [half, half], ceil=True))


RULES: Final[Rules] = {"Pooling": pooling}
