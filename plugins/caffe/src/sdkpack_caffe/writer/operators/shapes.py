"""Operators that move values without computing with them."""

from __future__ import annotations

from typing import Any, Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.convolution import pad_with_zeros
from sdkpack_caffe.writer.scope import NodeRules, NodeScope
from sdkpack_caffe.writer.source import FLOATS

__all__ = ["RULES"]


def concat(scope: NodeScope) -> Blob:
    """Concat."""
    values = [scope.bottom(number, integers=True) for number in range(len(scope.node.inputs))]
    if len(values) == 1:
        return values[0]
    axis = scope.axis(int(scope.attribute("axis", 1)), len(values[0].shape))
    return scope.add("Concat", values, scope.result(), "concat", concat_param={} if axis == 1 else {"axis": axis})


def flatten(scope: NodeScope) -> Blob:
    """Flatten for axis 1, else Reshape."""
    return scope.reshape(scope.bottom(0, integers=True), scope.result())


def reshape(scope: NodeScope) -> Blob:
    """Reshape to fixed sizes; a first size that stays is copied, so that the batch may be changed in the prototxt."""
    return scope.reshape(scope.bottom(0, integers=True), scope.result())


def transpose(scope: NodeScope) -> Blob:
    """Permute (SSD), or Reshape where only axes of size 1 move."""
    value = scope.bottom(0, integers=True)
    order = scope.attribute("perm") or range(len(value.shape) - 1, -1, -1)
    return scope.permute(value, [scope.axis(int(axis), len(value.shape)) for axis in order])


def split(scope: NodeScope) -> list[Blob]:
    """Slice; parts that nothing uses go to Silence."""
    value = scope.bottom(0, integers=True)
    axis = scope.axis(int(scope.attribute("axis", 0)), len(value.shape))
    count = len(scope.node.outputs)
    lengths = scope.setting("split", 1)
    if lengths is None:
        step = -(-value.shape[axis] // count)
        lengths = [min(step, value.shape[axis] - step * at) for at in range(count)]
    parts = scope.slice(value, axis, lengths)
    scope.silence([part for number, part in enumerate(parts) if not scope.wants(number)])
    return parts


def cut(scope: NodeScope) -> Blob:
    """Slice, with Silence for the rest; for steps other than 1 a matrix."""
    value = scope.bottom(0, integers=True)
    rank = len(value.shape)
    starts, ends = scope.setting("starts", 1) or [], scope.setting("ends", 2) or []
    axes = scope.setting("axes", 3, range(len(starts))) or []
    steps = scope.setting("steps", 4, [1] * len(starts)) or []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = scope.axis(axis, rank)
        places = range(value.shape[at])[start:end:step]
        if not places:
            raise NodeError("its result would be empty", got=f"{start} to {end}")
        value = scope.choose(value, at, places)
    return value


def gather(scope: NodeScope) -> Blob:
    """Slice or a matrix for fixed places; Embed for places that are computed in a fixed table."""
    import numpy as np

    axis = scope.axis(int(scope.attribute("axis", 0)), len(scope.shape(0)))
    if scope.is_constant(1):
        value = scope.bottom(0, integers=True)
        size = value.shape[axis]
        places = scope.constant(1, "places")
        if ((places < -size) | (places >= size)).any():
            raise NodeError("it asks for places that are not there", got=str(places.ravel()[:8].tolist()))
        found = scope.choose(value, axis, [int(place) % size for place in places.ravel()])
        return scope.reshape(found, scope.result())
    if not scope.is_constant(0) or axis != 0:
        raise NodeError("places that are computed have a layer for rows of a fixed table alone")
    table = scope.constant(0, "rows")
    rows = table.reshape(len(table), -1).astype(np.float64)
    fields = {"input_dim": len(rows), "num_output": rows.shape[1], "bias_term": False}
    places_of = scope.bottom(1, integers=True)
    found = scope.add("Embed", [places_of], (*places_of.shape, rows.shape[1]), "embed", weights=[rows],
                      embed_param=fields)  # fmt: skip
    scope.draft.note(f"node {scope.node.label!r} takes places counted from 0; Embed does not count from the end")
    return scope.reshape(found, scope.result())


def expand(scope: NodeScope) -> Blob:
    """Tile for each axis that grows."""
    return scope.tile(scope.bottom(0, integers=True), scope.result())


def tile(scope: NodeScope) -> Blob:
    """Tile."""
    value = scope.bottom(0, integers=True)
    for axis, (size, wanted) in enumerate(zip(value.shape, scope.result(), strict=True)):
        if size != wanted:
            value = scope.repeat(value, axis, wanted // size)
    return value


def pad(scope: NodeScope) -> Blob:
    """For zeros around spatial axes a depthwise Convolution that copies; else a matrix, or Slice and Concat."""
    value, rank = scope.bottom(0), len(scope.shape(0))
    amounts = scope.setting("pads", 1) or scope.setting("paddings", 1) or []
    axes = [scope.axis(axis, rank) for axis in scope.setting("axes", 3, range(rank)) or []]
    begins, ends = [0] * rank, [0] * rank
    for number, axis in enumerate(axes):
        begins[axis], ends[axis] = amounts[number], amounts[len(axes) + number]
    mode = scope.attribute("mode", "constant")
    fill = _fill(scope) if mode == "constant" else 0.0
    if mode == "constant" and fill != 0:
        value = scope.power(value, shift=-fill, suffix="less")
    if mode == "constant" and rank in (3, 4, 5) and not any(begins[:2] + ends[:2]) and min(begins + ends) >= 0:
        value = pad_with_zeros(scope, value, begins[2:], ends[2:])
    else:
        for axis in range(rank):
            if begins[axis] or ends[axis]:
                value = _pad_axis(scope, value, axis, begins[axis], ends[axis], mode)
    return scope.power(value, shift=fill, suffix="more") if fill else value


def _fill(scope: NodeScope) -> float:
    value = float(scope.attribute("value", 0))
    if scope.has(2):
        value = float(scope.constant(2, "values").ravel()[0])
    if abs(value) > 1e4:
        raise NodeError("padding with such a value has no layer", got=f"{value:g}", expected="up to 10000",
                        hint="let the pooling behind it pad")  # fmt: skip
    return value


def _pad_axis(scope: NodeScope, value: Blob, axis: int, begin: int, end: int, mode: str) -> Blob:
    """Zeros by a matrix; what repeats or mirrors the axis by a matrix at each end, between which the axis stands."""
    import numpy as np

    size = value.shape[axis]
    kept = np.arange(max(0, -begin), size - max(0, -end))
    more = (max(0, begin), max(0, end))
    if mode == "constant":
        scope.check_matrix(len(kept) + sum(more), size)
        places = np.pad(kept, more, constant_values=-1)
        return scope.matrix(value, axis, (places[:, None] == np.arange(size)).astype(np.float32))
    modes: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes or not len(kept):
        raise NodeError("no such way to pad", got=mode)
    places = np.pad(kept, more, mode=modes[mode])
    ends = [places[: more[0]].tolist(), places[len(places) - more[1] :].tolist()]
    front, back = ([_near(scope, value, axis, part)] if part else [] for part in ends)
    parts = [*front, scope.choose(value, axis, kept.tolist()), *back]
    if len(parts) == 1:
        return parts[0]
    shape = (*value.shape[:axis], len(places), *value.shape[axis + 1 :])
    return scope.add("Concat", parts, shape, "padded", concat_param={} if axis == 1 else {"axis": axis})


def _near(scope: NodeScope, value: Blob, axis: int, places: list[int]) -> Blob:
    """Places along an axis that lie close together: those between are cut out first."""
    first, last = min(places), max(places) + 1
    if (first, last) != (0, value.shape[axis]):
        value = scope.part(value, axis, first, last)
    return scope.choose(value, axis, [place - first for place in places])


def depth_to_space(scope: NodeScope) -> Blob:
    """Reshape and Permute."""
    value = scope.bottom(0)
    n, c, h, w = scope.shape(0, 4)
    block = int(scope.attribute("blocksize"))
    rest = c // block**2
    if scope.attribute("mode", "DCR") == "DCR":
        wide = scope.permute(scope.reshape(value, (n, block, block, rest, h, w)), [0, 3, 4, 1, 5, 2])
    else:
        wide = scope.permute(scope.reshape(value, (n, rest, block, block, h, w)), [0, 1, 4, 2, 5, 3])
    return scope.reshape(wide, scope.result())


def space_to_depth(scope: NodeScope) -> Blob:
    """Reshape and Permute."""
    value = scope.bottom(0)
    n, c, h, w = scope.shape(0, 4)
    block = int(scope.attribute("blocksize"))
    wide = scope.reshape(value, (n, c, h // block, block, w // block, block))
    return scope.reshape(scope.permute(wide, [0, 3, 5, 1, 2, 4]), scope.result())


def cast(scope: NodeScope) -> Blob:
    """Nothing: whole numbers and truth values are floats in Caffe, and layers that take places round by themselves."""
    target, name = scope.attribute("to", 0), scope.node.inputs[0]
    if scope.tensor(0).kind in FLOATS and target not in FLOATS and name not in scope.program.whole:
        places = {"Gather": 1, "ScatterElements": 1}
        result, users = scope.node.outputs[0], scope.users()
        taken = bool(users) and result not in scope.program.source.outputs
        if not taken or any(places.get(node.op) != node.inputs.index(result) for node in users):
            raise NodeError("Caffe cannot round floats to integers", hint="cut the model before it: models.NAME.cut")
    if target == 9 and scope.tensor(0).kind != 9:
        raise NodeError("Caffe cannot turn numbers into truth values")
    return scope.bottom(0, integers=True)


def cum_sum(scope: NodeScope) -> Blob:
    """A matrix of ones and zeros along the axis."""
    import numpy as np

    value = scope.bottom(0)
    axis = scope.axis(int(scope.constant(1, "axis")), len(value.shape))
    size = value.shape[axis]
    scope.check_matrix(size, size)
    weights = np.tril(np.ones((size, size), np.float32), -1 if scope.attribute("exclusive", 0) else 0)
    return scope.matrix(value, axis, weights.T if scope.attribute("reverse", 0) else weights)


RULES: Final[NodeRules] = {
    "Cast": cast,
    "Concat": concat,
    "CumSum": cum_sum,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
    "Slice": cut,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": reshape,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}
