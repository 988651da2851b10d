"""Pooling: Caffe rounds the number of windows upwards, and its averages divide by other counts than ONNX's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import LayerError, Shape
from sdkpack_caffe.layers.pooling import pool_size
from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.arithmetic import times_constant
from sdkpack_caffe.writer.operators.convolution import Geometry, geometry
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES", "average", "plane", "pool_globally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How one layer Pooling covers the windows of a node, for each axis."""

    floor: bool
    sizes: list[int]
    """Of what the layer makes."""
    pads: list[int]
    fronts: list[int]
    """Windows of the layer before the node's first; what is too much is cut off behind the layer."""


def max_pool(scope: NodeScope) -> list[Blob]:
    """Pooling MAX; a second top for places that MaxUnpool takes, or that Mod brings down to one plane."""
    return _pool(scope, "MAX", scope.bottom(0), tops=2 if scope.wants(1) else 1)


def average_pool(scope: NodeScope) -> Blob:
    """Pooling AVE, then Scale where the divisors differ."""
    return average(scope, None)


def average(scope: NodeScope, factors: NDArray[Any] | None) -> Blob:
    """The mean of each window times a factor for each place (1, 1, H, W), which may be what Caffe divides by anyway."""
    import numpy as np

    value, facts = _planes(scope, scope.bottom(0))
    plan = _plan(scope, "AVE", value.shape, facts)
    found = _layer(scope, "AVE", value, facts, plan, 1)[0]
    own = _divisors(value.shape, facts, found.shape, facts.begins)
    # With count_include_pad what a rounded-up last window has beyond the padding does not count.
    theirs = _divisors(value.shape, facts, found.shape, facts.ends if scope.attribute("count_include_pad", 0) else None)
    ratio = own / theirs
    if factors is not None:
        ratio = ratio * factors.reshape(factors.shape[-2:])
    if not np.allclose(ratio, 1, rtol=1e-6, atol=0):
        found = times_constant(scope, found, ratio[None, None], found.shape)
    return scope.reshape(found, scope.result())


def _divisors(shape: Shape, facts: Geometry, result: Shape, ends: list[int] | None) -> NDArray[Any]:
    """What the sum of each window is divided by: its cells within the input, and within padding of these ends."""
    import numpy as np

    counts = []
    for axis in range(2):
        size, begin = shape[2 + axis], facts.begins[axis]
        first = np.arange(result[2 + axis]) * facts.stride[axis] - begin
        last = np.minimum(first + facts.kernel[axis], size + (ends[axis] if ends is not None else 0))
        counts.append(last - (first if ends is not None else np.maximum(first, 0)))
    return np.outer(counts[0], counts[1]).astype(np.float64)


def _planes(scope: NodeScope, value: Blob) -> tuple[Blob, Geometry]:
    """The input with two spatial axes, and the settings for both: one axis gets a second one of size 1."""
    shape = scope.shape(0, 3, 4)
    kernel = scope.attribute("kernel_shape")
    if not kernel:
        raise NodeError("kernel_shape is missing")
    facts = geometry(scope, kernel, shape[2:])
    if any(part != 1 for part in facts.dilation):
        raise NodeError("Caffe's pooling knows no dilation", got=str(facts.dilation))
    if len(shape) == 3:
        facts = Geometry(kernel=[*facts.kernel, 1], stride=[*facts.stride, 1], dilation=[1, 1],
                         begins=[*facts.begins, 0], ends=[*facts.ends, 0])  # fmt: skip
        value = scope.reshape(value, (*shape, 1))
    if any(begin >= k for begin, k in zip(facts.begins, facts.kernel, strict=True)):
        raise NodeError("padding is less than the kernel in Caffe", got=f"{facts.begins}, kernel {facts.kernel}")
    if scope.draft.floor_pooling == "slice" and not any(facts.begins):
        # Where strides leap over more than the kernel, a rounded-up last window would see nothing of the input.
        for axis, count in enumerate([*scope.result()[2:], 1][:2]):
            used = (count - 1) * facts.stride[axis] + facts.kernel[axis]
            if facts.stride[axis] > facts.kernel[axis] and used < value.shape[2 + axis]:
                value = scope.part(value, 2 + axis, 0, used)
    return value, facts


def _plan(scope: NodeScope, method: str, shape: Shape, facts: Geometry) -> _Plan:
    """Caffe's own rounding where it gives the right size, else downwards, else what is too much is cut off."""
    wanted, by_slice = [*scope.result()[2:], 1][:2], scope.draft.floor_pooling == "slice"
    try:
        ceil, floor = (_sizes(shape, facts, facts.begins, ceil=up) for up in (True, False))
        inside = _inside(shape, facts, facts.begins, ceil)
        if ceil == wanted and inside:
            return _Plan(floor=False, sizes=ceil, pads=facts.begins, fronts=[0, 0])
        if floor == wanted and not by_slice:
            return _Plan(floor=True, sizes=floor, pads=facts.begins, fronts=[0, 0])
        if inside and all(own >= size for own, size in zip(ceil, wanted, strict=True)):
            return _Plan(floor=False, sizes=ceil, pads=facts.begins, fronts=[0, 0])
        moved = _moved(shape, facts, wanted) if method == "MAX" else None
    except LayerError as error:
        raise NodeError(error.message, got=error.got, expected=error.expected) from error
    if moved is not None:
        return moved
    hint = "pad the input in a node before, or change the padding of the pooling"
    raise NodeError(
        "Caffe makes another size of it, whichever way it rounds", got=f"{ceil} or {floor}", expected=str(wanted),
        hint='convert.with.floor_pooling = "round_mode"' if floor == wanted else hint,
    )  # fmt: skip


def _sizes(shape: Shape, facts: Geometry, pads: list[int], *, ceil: bool) -> list[int]:
    axes = zip(shape[2:], facts.kernel, facts.stride, pads, strict=True)
    return [pool_size(size, k, s, p, ceil=ceil, padded=any(pads)) for size, k, s, p in axes]


def _inside(shape: Shape, facts: Geometry, pads: list[int], sizes: list[int]) -> bool:
    """Whether each window has a part of the input: Caffe makes nothing sensible of others."""
    axes = zip(shape[2:], sizes, facts.stride, pads, strict=True)
    return all((count - 1) * s - p < size for size, count, s, p in axes)


def _moved(shape: Shape, facts: Geometry, wanted: list[int]) -> _Plan | None:
    """More padding at both ends, by whole strides: the node's windows come after some that are cut off.

    Only maxima: they do not look at padding.
    """
    pads, fronts = list(facts.begins), [0, 0]
    for axis in (0, 1):
        while True:
            one = _sizes(shape, facts, [pads[axis]] * 2, ceil=True)[axis] if pads[axis] < facts.kernel[axis] else 0
            if one - fronts[axis] >= wanted[axis]:
                break
            if not one:
                return None
            pads[axis] += facts.stride[axis]
            fronts[axis] += 1
    sizes = _sizes(shape, facts, pads, ceil=True)
    enough = all(own - front >= size for own, front, size in zip(sizes, fronts, wanted, strict=True))
    if not enough or not _inside(shape, facts, pads, sizes):
        return None
    return _Plan(floor=False, sizes=sizes, pads=pads, fronts=fronts)


def _pool(scope: NodeScope, method: str, value: Blob, tops: int = 1) -> list[Blob]:
    value, facts = _planes(scope, value)
    found = _layer(scope, method, value, facts, _plan(scope, method, value.shape, facts), tops)
    return [scope.reshape(blob, scope.result()) for blob in found]


def _layer(scope: NodeScope, method: str, value: Blob, facts: Geometry, plan: _Plan, tops: int) -> list[Blob]:
    fields: dict[str, Any] = {"pool": method}
    for name, values, default in (("kernel", facts.kernel, 0), ("stride", facts.stride, 1), ("pad", plan.pads, 0)):
        if values[0] != values[1]:
            fields |= {f"{name}_h": values[0], f"{name}_w": values[1]}
        elif values[0] != default:
            fields["kernel_size" if name == "kernel" else name] = values[0]
    if plan.floor:
        fields |= {"ceil_mode": False} if scope.draft.floor_pooling == "ceil_mode" else {"round_mode": "FLOOR"}
    found = scope.draft.add_many("Pooling", [value], [(*value.shape[:2], *plan.sizes)] * tops,
                                 name=f"{scope.name}_pool", pooling_param=fields)  # fmt: skip
    wanted = [*scope.result()[2:], 1][:2]
    for axis in (0, 1):
        if plan.sizes[axis] != wanted[axis]:
            front = plan.fronts[axis]
            found = [scope.part(blob, 2 + axis, front, front + wanted[axis]) for blob in found]
    return found


def plane(scope: NodeScope, value: Blob) -> Blob:
    """(N, C, ...) as (N, C, H, W) with as many values."""
    shape = value.shape
    if len(shape) < 3:
        raise NodeError("it needs spatial axes", got=str(list(shape)))
    if len(shape) == 4:
        return value
    rest = 1
    for size in shape[3:]:
        rest *= size
    return scope.reshape(value, (*shape[:3], rest))


def pool_globally(scope: NodeScope, value: Blob, method: str) -> Blob:
    """The mean or the maximum of each plane, (N, C, 1, 1)."""
    fields = {"pool": method, "global_pooling": True}
    value = plane(scope, value)
    return scope.add("Pooling", [value], (*value.shape[:2], 1, 1), "global", pooling_param=fields)


def global_average(scope: NodeScope) -> Blob:
    """Pooling AVE with global_pooling."""
    return scope.reshape(pool_globally(scope, scope.bottom(0), "AVE"), scope.result())


def global_max(scope: NodeScope) -> Blob:
    """Pooling MAX with global_pooling."""
    return scope.reshape(pool_globally(scope, scope.bottom(0), "MAX"), scope.result())


RULES: Final[NodeRules] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_max,
    "MaxPool": max_pool,
}
