"""Layers of forks that make planes larger."""

from __future__ import annotations

from typing import Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Shape, Value

__all__ = ["RULES"]


def interp(scope: Scope) -> list[Value]:
    """Bilinear, the corners' centres stay where they are (DeepLab, PSPNet).

    Size: height and width where given, else (in - 1) / shrink_factor + 1, then in + (in - 1) * (zoom_factor - 1).
    Negative pad_beg and pad_end cut the edges off before.
    """
    message = scope.fields.interp_param
    value = scope.one()
    shape = scope.shape(value, 4)
    if message.pad_beg > 0 or message.pad_end > 0:
        raise LayerError("pad_beg and pad_end are not above 0", got=f"{message.pad_beg}, {message.pad_end}")
    if message.pad_beg or message.pad_end:
        ends = [size + message.pad_end for size in shape[2:]]
        starts = [-message.pad_beg] * 2
        shape = (*shape[:2], *(end - start for start, end in zip(starts, ends, strict=True)))
        inputs = [value, scope.ints(starts, "starts"), scope.ints(ends, "ends"), scope.ints([2, 3], "axes")]
        value = scope.emit("Slice", inputs, shape)
    sizes = _interp_sizes(message, shape)
    if min(sizes) < 1:
        raise LayerError("its result would be empty", got=str(sizes))
    target = scope.ints([*shape[:2], *sizes], "sizes")
    return [
        scope.emit("Resize", [value, None, None, target], (*shape[:2], *sizes), mode="linear",
                   coordinate_transformation_mode="align_corners")
    ]  # fmt: skip


def _interp_sizes(message: Any, shape: Shape) -> list[int]:
    if message.height > 0 and message.width > 0:
        return [message.height, message.width]
    if message.shrink_factor < 1 or message.zoom_factor < 1:
        raise LayerError("factors are at least 1", got=f"{message.shrink_factor}, {message.zoom_factor}")
    smaller = [(size - 1) // message.shrink_factor + 1 for size in shape[2:]]
    return [size + (size - 1) * (message.zoom_factor - 1) for size in smaller]


def upsample(scope: Scope) -> list[Value]:
    """One bottom: every value `scale` times in both directions. Two: SegNet's unpooling.

    Unpooling puts each value where the mask, a MAX pooling's second top, says, into a plane of zeros of upsample_h by
    upsample_w, else `scale` times the size, one row or column less where pad_out_h or pad_out_w says so.
    """
    message = scope.fields.upsample_param
    value = scope.bottoms(1, 2)[0]
    shape = scope.shape(value, 4)
    if len(scope.inputs) == 2:
        return [_unpool(scope, message, shape)]
    if message.scale < 1:
        raise LayerError("scale is at least 1", got=str(message.scale))
    factors = scope.constant([1, 1, message.scale, message.scale], "scales")
    result = (*shape[:2], shape[2] * message.scale, shape[3] * message.scale)
    return [
        scope.emit("Resize", [value, None, factors], result, mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")
    ]  # fmt: skip


def _unpool(scope: Scope, message: Any, shape: Shape) -> Value:
    value, mask = scope.inputs
    if scope.shape(mask) != shape:
        raise LayerError("its mask has another shape", got=str(list(scope.shape(mask))), expected=str(list(shape)))
    sizes = []
    for letter, size in zip("hw", shape[2:], strict=True):
        factor = getattr(message, f"scale_{letter}") or message.scale
        sizes.append(getattr(message, f"upsample_{letter}") or size * factor - getattr(message, f"pad_out_{letter}"))
    count, room = shape[2] * shape[3], sizes[0] * sizes[1]
    if min(sizes) < 1 or room < count:
        raise LayerError("its result is smaller than its bottom", got=str(sizes))
    flat = (*shape[:2], count)
    places = scope.emit("Cast", [scope.reshape(mask, (0, 0, -1), flat)], flat, floats=False, to=7)
    wide = (*shape[:2], room)
    zeros = scope.emit("Expand", [scope.scalar(0, "zero"), scope.ints(wide, "wide")], wide)
    filled = scope.emit("ScatterElements", [zeros, places, scope.reshape(value, (0, 0, -1), flat)], wide, axis=2)
    return scope.reshape(filled, (0, 0, *sizes), (*shape[:2], *sizes))


RULES: Final[Rules] = {"Interp": interp, "Upsample": upsample}
