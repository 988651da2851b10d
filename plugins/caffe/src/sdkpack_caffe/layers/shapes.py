"""Layers that move values without computing with them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Value

__all__ = ["RULES"]


def concat(scope: Scope) -> list[Value]:
    """All bottoms one after another along `axis` (1); an old file's concat_dim wins."""
    message = scope.fields.concat_param
    shapes = [scope.shape(value) for value in scope.inputs]
    if not shapes:
        raise LayerError("it has no bottom")
    axis = scope.axis(int(message.concat_dim) if message.HasField("concat_dim") else message.axis, len(shapes[0]))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) > 1 or len({len(shape) for shape in shapes}) > 1:
        raise LayerError(f"its bottoms differ beside axis {axis}", got=", ".join(str(list(shape)) for shape in shapes))
    total = sum(shape[axis] for shape in shapes)
    if len(shapes) == 1:
        return [scope.inputs[0]]
    return [scope.emit("Concat", list(scope.inputs), (*shapes[0][:axis], total, *shapes[0][axis + 1 :]), axis=axis)]


def cut(scope: Scope) -> list[Value]:
    """Pieces along `axis` (1, or an old file's slice_dim), cut at the slice_points, or equal ones without these."""
    message = scope.fields.slice_param
    value = scope.one()
    shape = scope.shape(value)
    axis = scope.axis(int(message.slice_dim) if message.HasField("slice_dim") else message.axis, len(shape))
    count, size = len(scope.layer.tops), shape[axis]
    if message.slice_point:
        marks = [0, *map(int, message.slice_point), size]
        lengths = [end - start for start, end in pairwise(marks)]
    else:
        lengths = [size // max(count, 1)] * count
    if sum(lengths) != size or len(lengths) != count or any(length < 1 for length in lengths):
        raise LayerError("its pieces do not fit", got=f"{lengths} for {count} tops", expected=f"{size} together")
    if count == 1:
        return [value]
    shapes = [(*shape[:axis], length, *shape[axis + 1 :]) for length in lengths]
    return scope.emit_many("Split", [value, scope.ints(lengths, "lengths")], shapes, axis=axis)


def split(scope: Scope) -> list[Value]:
    """The bottom, once for each top."""
    return [scope.one()] * len(scope.layer.tops)


def flatten(scope: Scope) -> list[Value]:
    """The axes from `axis` (1) to end_axis (-1), both included, as one."""
    message = scope.fields.flatten_param
    value = scope.one()
    shape = scope.shape(value)
    first, last = scope.axis(message.axis, len(shape)), scope.axis(message.end_axis, len(shape))
    if last < first:
        raise LayerError("end_axis stands before axis", got=f"{message.axis} to {message.end_axis}")
    merged = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    if first == 1 and last == len(shape) - 1:
        return [scope.emit("Flatten", [value], merged, axis=1)]
    return [scope.reshape(value, (*[0] * first, -1, *shape[last + 1 :]), merged)]


def reshape(scope: Scope) -> list[Value]:
    """The axes from `axis` (0), num_axes (-1: all) of them, get new sizes: 0 copies the old one, -1 is worked out."""
    message = scope.fields.reshape_param
    value = scope.one()
    shape = scope.shape(value)
    start = scope.axis(message.axis, len(shape), end=True)
    end = len(shape) if message.num_axes == -1 else start + message.num_axes
    if message.num_axes < -1 or end > len(shape):
        raise LayerError("num_axes reaches past the last axis", got=str(message.num_axes))
    wanted = [int(dim) for dim in message.shape.dim]
    if wanted.count(-1) > 1 or any(dim < -1 for dim in wanted):
        raise LayerError("its shape has several unknown sizes", got=str(wanted))
    if any(dim == 0 and start + at >= len(shape) for at, dim in enumerate(wanted)):
        raise LayerError("its shape copies a size that is not there", got=str(wanted), expected=str(list(shape)))
    middle = [shape[start + at] if dim == 0 else dim for at, dim in enumerate(wanted)]
    total = math.prod(shape[start:end])
    if -1 in middle:
        rest = math.prod(dim for dim in middle if dim != -1)
        middle[middle.index(-1)] = total // rest
    if math.prod(middle) != total:
        raise LayerError("its shape has another number of values", got=str(wanted), expected=f"{total} values")
    # Copied sizes stay copied and worked-out ones worked out, so that open sizes pass through.
    kept = wanted if start + len(wanted) <= len(shape) else middle
    target = [*[0] * start, *kept, *shape[end:]]
    return [scope.reshape(value, target, (*shape[:start], *middle, *shape[end:]))]


def permute(scope: Scope) -> list[Value]:
    """The axes in the given order, those that it leaves out behind them in rising order (SSD)."""
    value = scope.one()
    shape = scope.shape(value)
    order = [int(axis) for axis in scope.fields.permute_param.order]
    if not shape or len(set(order)) != len(order) or any(axis >= len(shape) for axis in order):
        raise LayerError("no order of the axes", got=str(order), expected=f"{len(shape)} axes")
    order += [axis for axis in range(len(shape)) if axis not in order]
    return [scope.emit("Transpose", [value], [shape[axis] for axis in order], perm=order)]


def crop(scope: Scope) -> list[Value]:
    """The first bottom cut to the sizes of the second, from `axis` (2) on, starting at the offsets."""
    message = scope.fields.crop_param
    value, like = scope.bottoms(2)
    shape, sizes = scope.shape(value), scope.shape(like)
    axis = scope.axis(message.axis, len(shape))
    offsets = [int(offset) for offset in message.offset] or [0]
    count = len(shape) - axis
    if len(offsets) not in (1, count) or len(sizes) != len(shape):
        raise LayerError("its offsets do not fit the axes", got=str(offsets), expected=f"1 or {count} offsets")
    starts = offsets * count if len(offsets) == 1 else offsets
    ends = [start + size for start, size in zip(starts, sizes[axis:], strict=True)]
    if any(end > size for end, size in zip(ends, shape[axis:], strict=True)):
        raise LayerError("it reaches past its bottom", got=f"up to {ends}", expected=f"at most {list(shape[axis:])}")
    inputs = [
        value,
        scope.ints(starts, "starts"),
        scope.ints(ends, "ends"),
        scope.ints(range(axis, len(shape)), "axes"),
    ]
    return [scope.emit("Slice", inputs, (*shape[:axis], *sizes[axis:]))]


def tile(scope: Scope) -> list[Value]:
    """The bottom, `tiles` times one after another along `axis` (1)."""
    message = scope.fields.tile_param
    value = scope.one()
    shape = scope.shape(value)
    axis = scope.axis(message.axis, len(shape))
    if message.tiles < 1:
        raise LayerError("tiles is at least 1", got=str(message.tiles))
    times = [message.tiles if at == axis else 1 for at in range(len(shape))]
    sizes = [size * time for size, time in zip(shape, times, strict=True)]
    return [scope.emit("Tile", [value, scope.ints(times, "times")], sizes)]


def embed(scope: Scope) -> list[Value]:
    """Row `x` of a table (input_dim, num_output), plus a bias; numbers of rows come as floats."""
    message = scope.fields.embed_param
    value = scope.one()
    shape = scope.shape(value)
    rows, width = int(message.input_dim), int(message.num_output)
    table = scope.blob(0, [rows, width], "weights")
    if message.bias_term:
        table = table + scope.blob(1, [width], "bias")
    numbers = scope.emit("Cast", [value], shape, floats=False, to=7)
    return [scope.emit("Gather", [scope.constant(table, "weight"), numbers], (*shape, width), axis=0)]


RULES: Final[Rules] = {
    "Concat": concat,
    "Crop": crop,
    "Embed": embed,
    "Flatten": flatten,
    "Permute": permute,
    "Reshape": reshape,
    "Slice": cut,
    "Split": split,
    "Tile": tile,
}
