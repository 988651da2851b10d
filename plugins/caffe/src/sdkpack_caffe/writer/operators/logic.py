"""Comparisons: truth values are floats in Caffe, 1 for true and 0 for false."""

from __future__ import annotations

from typing import Final

from sdkpack_caffe.writer.draft import Blob
from sdkpack_caffe.writer.operators.arithmetic import plus, total
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES"]


def greater(scope: NodeScope) -> Blob:
    """Threshold, of the difference where both are computed."""
    return _above(scope, 0, 1)


def less(scope: NodeScope) -> Blob:
    """Threshold of what is times -1, or of the difference."""
    return _above(scope, 1, 0)


def greater_or_equal(scope: NodeScope) -> Blob:
    """As Less, then Power: 1 - x."""
    return _opposite(scope, _above(scope, 1, 0))


def less_or_equal(scope: NodeScope) -> Blob:
    """As Greater, then Power: 1 - x."""
    return _opposite(scope, _above(scope, 0, 1))


def equal(scope: NodeScope) -> Blob:
    """As Greater and Less; 1 where neither is true."""
    either = scope.eltwise("SUM", [_above(scope, 0, 1), _above(scope, 1, 0)])
    return _opposite(scope, either)


def negation(scope: NodeScope) -> Blob:
    """Power: 1 - x."""
    return _opposite(scope, scope.bottom(0, integers=True))


def conjunction(scope: NodeScope) -> Blob:
    """Eltwise PROD."""
    return scope.eltwise("PROD", [scope.tile(scope.bottom(at, integers=True), scope.result()) for at in (0, 1)])


def disjunction(scope: NodeScope) -> Blob:
    """Eltwise MAX."""
    return scope.eltwise("MAX", [scope.tile(scope.bottom(at, integers=True), scope.result()) for at in (0, 1)])


def where(scope: NodeScope) -> Blob:
    """Eltwise: c * x + (1 - c) * y."""
    result = scope.result()
    chosen = scope.tile(scope.bottom(0, integers=True), result)
    yes, no = (scope.tile(scope.bottom(at), result) for at in (1, 2))
    first = scope.eltwise("PROD", [chosen, yes])
    return scope.eltwise("SUM", [first, scope.eltwise("PROD", [_opposite(scope, chosen), no])])


def _opposite(scope: NodeScope, value: Blob) -> Blob:
    return scope.power(value, scale=-1, shift=1, suffix="not")


def _above(scope: NodeScope, left: int, right: int) -> Blob:
    """1 where input `left` is greater than `right`; the difference of two floats is 0 only where they are equal."""
    import numpy as np

    result = scope.result()
    if scope.is_constant(right):
        limit = np.unique(scope.constant(right, "limits"))
        value = scope.bottom(left)
        if len(limit) == 1 and value.shape == result:
            return scope.plain("Threshold", value, "above", threshold_param={"threshold": float(limit[0])})
        difference = plus(scope, value, -scope.constant(right, "limits").astype(np.float64), result)
    elif scope.is_constant(left):
        limit = np.unique(scope.constant(left, "limits"))
        value = scope.power(scope.bottom(right), scale=-1)
        if len(limit) == 1 and value.shape == result:
            return scope.plain("Threshold", value, "above", threshold_param={"threshold": -float(limit[0])})
        difference = plus(scope, value, scope.constant(left, "limits").astype(np.float64), result)
    else:
        difference = total(scope, scope.bottom(left), scope.power(scope.bottom(right), scale=-1), result)
    return scope.plain("Threshold", difference, "above")


RULES: Final[NodeRules] = {
    "And": conjunction,
    "Equal": equal,
    "Greater": greater,
    "GreaterOrEqual": greater_or_equal,
    "Less": less,
    "LessOrEqual": less_or_equal,
    "Not": negation,
    "Or": disjunction,
    "Where": where,
}
