"""Reductions, ArgMax and TopK."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.pooling import pool_globally
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES", "arg_max_layer", "reduced"]


def reduced(scope: NodeScope, value: Blob, axes: list[int], operation: str) -> Blob:
    """One value for each index of the axes that stay, as a blob of their sizes.

    MEAN and MAX over planes are global poolings, which every reader has; SUM, ASUM, SUMSQ and other means are Reduction
    over the last axes, whereto the reduced ones are moved.
    """
    rank = len(value.shape)
    kept = [axis for axis in range(rank) if axis not in axes]
    value = scope.permute(value, [*kept, *axes])
    sizes = value.shape[: len(kept)]
    if operation == "MAX" or (operation == "MEAN" and rank == 4 and kept == [0, 1]):
        inner = math.prod(value.shape[len(kept) :])
        if len(kept) != 2 or rank != 4:
            value = scope.reshape(value, (1, math.prod(sizes), inner, 1))
        return scope.reshape(pool_globally(scope, value, "MAX" if operation == "MAX" else "AVE"), sizes)
    if not scope.draft.allows("Reduction"):
        return _by_pooling(scope, value, sizes, operation)
    fields: dict[str, object] = {"axis": len(kept)} if kept else {}
    if operation != "SUM":
        fields["operation"] = operation
    return scope.add("Reduction", [value], sizes, "reduced", reduction_param=fields)


def _by_pooling(scope: NodeScope, value: Blob, sizes: tuple[int, ...], operation: str) -> Blob:
    """Reduction over the last axes as a mean times the count."""
    count = math.prod(value.shape[len(sizes) :])
    if operation == "ASUM":
        value = scope.plain("AbsVal", value, "abs")
    elif operation == "SUMSQ":
        value = scope.eltwise("PROD", [value, value])
    wide = scope.reshape(value, (1, math.prod(sizes), count, 1))
    mean = scope.reshape(pool_globally(scope, wide, "AVE"), sizes)
    return mean if operation == "MEAN" else scope.power(mean, scale=count)


def _axes(scope: NodeScope) -> list[int] | None:
    """The reduced axes; None: there are none, and nothing is to be done."""
    rank = len(scope.shape(0))
    axes = scope.setting("axes", 1)
    if not axes:
        return None if scope.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(scope.axis(axis, rank) for axis in axes)


def _reduction(operation: str, says: str, *, before: float = 1, power: float = 1, after: float = 1) -> (
    Callable[[NodeScope], Blob]
):  # fmt: skip
    def rule(scope: NodeScope) -> Blob:
        value, axes = scope.bottom(0), _axes(scope)
        if axes is None:
            if operation not in ("SUM", "MEAN", "MAX"):
                raise NodeError("it reduces no axis")
            return value
        found = reduced(scope, scope.power(value, scale=before), axes, operation)
        found = scope.power(found, scale=after) if after != 1 else scope.power(found, power=power)
        return scope.reshape(found, scope.result())

    rule.__doc__ = says
    return rule


def arg_max_layer(scope: NodeScope, value: Blob, axis: int, count: int, values: bool) -> Blob:
    """ArgMax along an axis: places or values of the greatest, among equals the last place first."""
    fields: dict[str, object] = {"axis": axis}
    if count != 1:
        fields["top_k"] = count
    if values:
        fields["out_max_val"] = True
    shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
    return scope.add("ArgMax", [value], shape, "values" if values else "places", argmax_param=fields)


def _arg(sign: int, says: str) -> Callable[[NodeScope], Blob]:
    def rule(scope: NodeScope) -> Blob:
        value = scope.power(scope.bottom(0), scale=sign)
        axis = scope.axis(int(scope.attribute("axis", 0)), len(value.shape))
        scope.draft.note(f"node {scope.node.label!r} gives places as floats; of equal values Caffe takes the last")
        return scope.reshape(arg_max_layer(scope, value, axis, 1, values=False), scope.result())

    rule.__doc__ = says
    return rule


def top_k(scope: NodeScope) -> list[Blob | None]:
    """ArgMax with top_k, once for values and once for places."""
    sign = 1 if scope.attribute("largest", 1) else -1
    value = scope.power(scope.bottom(0), scale=sign)
    axis = scope.axis(int(scope.attribute("axis", -1)), len(value.shape))
    count = (scope.setting("k", 1) or [0])[0]
    found: list[Blob | None] = [None, None]
    if scope.wants(0):
        found[0] = scope.power(arg_max_layer(scope, value, axis, count, values=True), scale=sign)
    if scope.wants(1):
        found[1] = arg_max_layer(scope, value, axis, count, values=False)
        scope.draft.note(
            f"node {scope.node.label!r} gives places as floats; of equal values Caffe takes the last first"
        )
    return found


RULES: Final[NodeRules] = {
    "ArgMax": _arg(1, "ArgMax; places are floats, and of equal values the last one's."),
    "ArgMin": _arg(-1, "As ArgMax, of what is times -1."),
    "ReduceL1": _reduction("ASUM", "Reduction ASUM."),
    "ReduceL2": _reduction("SUMSQ", "Reduction SUMSQ, then Power with the power 0.5.", power=0.5),
    "ReduceMax": _reduction("MAX", "Pooling MAX with global_pooling."),
    "ReduceMean": _reduction("MEAN", "Pooling AVE with global_pooling over planes, else Reduction MEAN."),
    "ReduceMin": _reduction("MAX", "As ReduceMax, of what is times -1.", before=-1, after=-1),
    "ReduceSum": _reduction("SUM", "Reduction SUM."),
    "ReduceSumSquare": _reduction("SUMSQ", "Reduction SUMSQ."),
    "TopK": top_k,
}
