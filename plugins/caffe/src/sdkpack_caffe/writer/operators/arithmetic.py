"""Sums, products and quotients of two values, with ONNX's broadcasting."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import Shape
from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES", "bounded", "plus", "product", "times_constant", "total"]


def add(scope: NodeScope) -> Blob:
    """Eltwise SUM for equal shapes; with a constant Power or Scale, else Bias with two bottoms."""
    return _both(scope, plus, total)


def sub(scope: NodeScope) -> Blob:
    """As Add, the second one times -1."""
    if scope.is_constant(1):
        return plus(scope, scope.bottom(0), -_numbers(scope, 1), scope.result())
    if scope.is_constant(0):
        return plus(scope, scope.power(scope.bottom(1), scale=-1), _numbers(scope, 0), scope.result())
    first, second = scope.bottom(0), scope.bottom(1)
    if first.shape == second.shape:
        return scope.eltwise("SUM", [first, second], [1, -1])
    return total(scope, first, scope.power(second, scale=-1), scope.result())


def mul(scope: NodeScope) -> Blob:
    """Eltwise PROD for equal shapes; with a constant Power or Scale, else Scale with two bottoms."""
    return _both(scope, times_constant, product)


def div(scope: NodeScope) -> Blob:
    """As Mul, the second one to the power of -1."""
    import numpy as np

    if scope.is_constant(1):
        with np.errstate(divide="ignore"):
            inverse = 1 / _numbers(scope, 1)
        return times_constant(scope, scope.bottom(0), inverse, scope.result())
    if scope.is_constant(0) and scope.constant(0, "values").size == 1 and _numbers(scope, 0).any():
        inverted = scope.power(scope.bottom(1), scale=1 / float(_numbers(scope, 0).ravel()[0]), power=-1)
        return scope.reshape(inverted, scope.result())
    inverted = scope.power(scope.bottom(1), power=-1, suffix="inverse")
    if scope.is_constant(0):
        return times_constant(scope, inverted, _numbers(scope, 0), scope.result())
    return product(scope, scope.bottom(0), inverted, scope.result())


def sum_all(scope: NodeScope) -> Blob:
    """Eltwise SUM of all inputs, each brought to one shape."""
    return reduce(lambda left, right: total(scope, left, right, _common(left, right)), _all(scope))


def mean(scope: NodeScope) -> Blob:
    """As Sum, then Power with the scale 1 / count."""
    return scope.power(sum_all(scope), scale=1 / len(scope.node.inputs))


def maximum(scope: NodeScope) -> Blob:
    """Eltwise MAX; with a constant of one value Power and ReLU."""
    return _extreme(scope, 1)


def minimum(scope: NodeScope) -> Blob:
    """As Max, of what is times -1."""
    return _extreme(scope, -1)


def _extreme(scope: NodeScope, sign: int) -> Blob:
    if len(scope.node.inputs) == 2:
        for known in (0, 1):
            limits = set(_numbers(scope, known).ravel().tolist()) if scope.is_constant(known) else set()
            if len(limits) == 1 and scope.shape(1 - known) == scope.result():
                return bounded(scope, scope.bottom(1 - known), float(limits.pop()), sign)
    values = [scope.tile(value, scope.result()) for value in _all(scope)]
    if sign < 0:
        values = [scope.power(value, scale=-1) for value in values]
    found = values[0] if len(values) == 1 else scope.eltwise("MAX", values)
    return scope.power(found, scale=sign)


def bounded(scope: NodeScope, value: Blob, limit: float, sign: int) -> Blob:
    """max(x, limit), or with the sign -1 min(x, limit): limit + sign * ReLU(sign * (x - limit))."""
    moved = scope.power(value, scale=sign, shift=-sign * limit, suffix="above")
    return scope.power(scope.plain("ReLU", moved, "relu"), scale=sign, shift=limit, suffix="back")


def _numbers(scope: NodeScope, number: int) -> NDArray[Any]:
    import numpy as np

    values = scope.constant(number, "values")
    if values.dtype.kind not in "fiub":
        raise NodeError("its constant has no numbers", got=str(values.dtype))
    return values.astype(np.float64)


def _all(scope: NodeScope) -> list[Blob]:
    return [scope.bottom(number) for number in range(len(scope.node.inputs))]


def _common(left: Blob, right: Blob) -> Shape:
    import numpy as np

    return tuple(int(size) for size in np.broadcast_shapes(left.shape, right.shape))


def _both(scope: NodeScope, with_constant: Any, of_two: Any) -> Blob:
    for known in (1, 0):
        if scope.is_constant(known) and not scope.is_constant(1 - known):
            result: Blob = with_constant(scope, scope.bottom(1 - known), _numbers(scope, known), scope.result())
            return result
    both: Blob = of_two(scope, scope.bottom(0), scope.bottom(1), scope.result())
    return both


def plus(scope: NodeScope, value: Blob, values: NDArray[Any], shape: Shape) -> Blob:
    """x + constant."""
    import numpy as np

    value = scope.tile(value, shape) if value.shape != shape else value
    if len(np.unique(values)) == 1:
        return scope.power(value, shift=float(values.ravel()[0]))
    core, axis = core_of(values.shape, shape)
    beta = np.broadcast_to(values.reshape(_aligned(values.shape, len(shape))), _spread(core, axis, shape))
    return scope.scale(value, np.ones(core), beta.reshape(core), axis)


def times_constant(scope: NodeScope, value: Blob, values: NDArray[Any], shape: Shape) -> Blob:
    """x * constant."""
    import numpy as np

    value = scope.tile(value, shape) if value.shape != shape else value
    if len(np.unique(values)) == 1:
        return scope.power(value, scale=float(values.ravel()[0]))
    core, axis = core_of(values.shape, shape)
    gamma = np.broadcast_to(values.reshape(_aligned(values.shape, len(shape))), _spread(core, axis, shape))
    return scope.scale(value, gamma.reshape(core), None, axis)


def _aligned(own: Shape, rank: int) -> Shape:
    return (*[1] * (rank - len(own)), *own)


def _spread(core: Shape, axis: int, shape: Shape) -> Shape:
    return (*[1] * axis, *core, *[1] * (len(shape) - axis - len(core)))


def core_of(own: Shape, shape: Shape) -> tuple[Shape, int]:
    """The axes of `shape` that a value of the shape `own` varies over: their sizes, and the first of them."""
    varying = [axis for axis, size in enumerate(_aligned(own, len(shape))) if size != 1]
    return (tuple(shape[varying[0] : varying[-1] + 1]), varying[0]) if varying else ((), 0)


def total(scope: NodeScope, left: Blob, right: Blob, shape: Shape) -> Blob:
    """x + y."""
    if left.shape == right.shape:
        return scope.eltwise("SUM", [left, right])
    large, small, axis = _over(scope, left, right, shape)
    if large.shape == small.shape:
        return scope.eltwise("SUM", [large, small])
    fields = {} if axis == 1 else {"axis": axis}
    if scope.draft.allows("Bias"):
        return scope.add("Bias", [large, small], shape, "bias", bias_param=fields)
    # 1 everywhere times y is y in the shape of x.
    ones = scope.power(large, scale=0, shift=1, suffix="ones")
    return scope.eltwise("SUM", [large, scope.add("Scale", [ones, small], shape, "wide", scale_param=fields)])


def product(scope: NodeScope, left: Blob, right: Blob, shape: Shape) -> Blob:
    """x * y."""
    if left.shape == right.shape:
        return scope.eltwise("PROD", [left, right])
    large, small, axis = _over(scope, left, right, shape)
    if large.shape == small.shape:
        return scope.eltwise("PROD", [large, small])
    return scope.add("Scale", [large, small], shape, "scale", scale_param={} if axis == 1 else {"axis": axis})


def _over(scope: NodeScope, left: Blob, right: Blob, shape: Shape) -> tuple[Blob, Blob, int]:
    """The one with all values, the other one in a shape that lies over it, and the axis from which on it does."""
    large, small = (left, right) if left.shape == shape or right.shape != shape else (right, left)
    large = scope.tile(large, shape) if large.shape != shape else large
    core, axis = core_of(small.shape, shape)
    # Sizes of 1 between others are filled up; those before and behind are left to the layer.
    aligned = _aligned(small.shape, len(shape))
    inner = aligned[axis : axis + len(core)]
    small = scope.reshape(small, inner)
    return large, scope.tile(small, core) if inner != core else small, axis


RULES: Final[NodeRules] = {
    "Add": add,
    "Div": div,
    "Max": maximum,
    "Mean": mean,
    "Min": minimum,
    "Mul": mul,
    "Sub": sub,
    "Sum": sum_all,
}
