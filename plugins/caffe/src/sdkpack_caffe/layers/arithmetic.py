"""Layers that compute across values: sums of bottoms, along axes, by channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Shape, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES"]

_PROD, _SUM, _MAX = 0, 1, 2


def eltwise(scope: Scope) -> list[Value]:
    """Product, sum weighted by the coefficients (1), or maximum of bottoms of one shape."""
    message = scope.fields.eltwise_param
    values = list(scope.inputs)
    shapes = {scope.shape(value) for value in values}
    if len(values) < 2 or len(shapes) != 1:
        raise LayerError("it needs at least two bottoms of one shape",
                         got=", ".join(str(list(scope.shape(value))) for value in values))  # fmt: skip
    if message.coeff and (message.operation != _SUM or len(message.coeff) != len(values)):
        raise LayerError("one coefficient for each bottom of a sum", got=str(list(message.coeff)))
    if message.operation == _MAX:
        return [scope.emit("Max", values, values[0].shape)]
    for at, coefficient in enumerate(message.coeff):
        if coefficient != 1:
            values[at] = scope.binary("Mul", values[at], scope.scalar(coefficient, "coefficient"))
    result = values[0]
    for value in values[1:]:
        result = scope.binary("Mul" if message.operation == _PROD else "Add", result, value)
    return [result]


def _spread(scope: Scope, message: Any, shape: Shape) -> tuple[Shape, Shape]:
    """Shape of a parameter that covers num_axes (1; -1: all) axes from `axis` (1) on, and the same with ones behind."""
    if message.num_axes == 0:
        return (), ()
    axis = scope.axis(message.axis, len(shape))
    end = len(shape) if message.num_axes == -1 else axis + message.num_axes
    if message.num_axes < -1 or end > len(shape):
        raise LayerError("num_axes reaches past the last axis", got=str(message.num_axes))
    return shape[axis:end], (*shape[axis:end], *[1] * (len(shape) - end))


def _second(scope: Scope, message: Any, shape: Shape) -> tuple[Value, Shape]:
    """The second bottom as a factor or summand: its axes lie over the first one's from `axis` on."""
    other = scope.inputs[1]
    own = scope.shape(other)
    axis = scope.axis(message.axis, len(shape)) if own else 0
    if shape[axis : axis + len(own)] != own:
        raise LayerError("its second bottom does not lie over the first", got=str(list(own)),
                         expected=f"sizes of {list(shape)} from axis {axis} on")  # fmt: skip
    behind = len(shape) - axis - len(own) if own else 0
    if behind:
        other = scope.reshape(other, (*own, *[1] * behind), (*own, *[1] * behind))
    return other, own


def scale(scope: Scope) -> list[Value]:
    """x * gamma + beta; gamma is a weight or the second bottom, beta there where bias_term says so."""
    message = scope.fields.scale_param
    value = scope.bottoms(1, 2)[0]
    shape = scope.shape(value)
    if len(scope.inputs) == 2:
        factor, own = _second(scope, message, shape)
        target = factor.shape or ()
    else:
        own, target = _spread(scope, message, shape)
        factor = scope.constant(scope.blob(0, own, "scale").reshape(target), "scale")
    result = scope.emit("Mul", [value, factor], shape)
    if message.bias_term:
        bias = scope.blob(2 - len(scope.inputs), own, "bias").reshape(target)
        result = scope.emit("Add", [result, scope.constant(bias, "bias")], shape)
    return [result]


def bias(scope: Scope) -> list[Value]:
    """x + b; b is a weight or the second bottom."""
    message = scope.fields.bias_param
    value = scope.bottoms(1, 2)[0]
    shape = scope.shape(value)
    if len(scope.inputs) == 2:
        other, _ = _second(scope, message, shape)
    else:
        own, target = _spread(scope, message, shape)
        other = scope.constant(scope.blob(0, own, "bias").reshape(target), "bias")
    return [scope.emit("Add", [value, other], shape)]


def softmax(scope: Scope) -> list[Value]:
    """e^x / sum of e^x along `axis` (1)."""
    value = scope.one()
    axis = scope.axis(scope.fields.softmax_param.axis, len(scope.shape(value)))
    return [scope.emit("Softmax", [value], value.shape, axis=axis)]


_REDUCTIONS: Final = {1: "ReduceSum", 2: "ReduceL1", 3: "ReduceSumSquare", 4: "ReduceMean"}


def reduction(scope: Scope) -> list[Value]:
    """Sum, sum of |x|, sum of squares or mean over all axes from `axis` (0) on, times coeff; these axes go."""
    message = scope.fields.reduction_param
    value = scope.one()
    shape = scope.shape(value)
    axis = scope.axis(message.axis, len(shape))
    result = scope.reduce(_REDUCTIONS[message.operation], value, range(axis, len(shape)), keep=False)
    if message.coeff != 1:
        result = scope.binary("Mul", result, scope.scalar(message.coeff, "coeff"))
    return [result]


def arg_max(scope: Scope) -> list[Value]:
    """The places of the top_k greatest values, as floats; among equals the last one comes first.

    With `axis`: along it, places or (out_max_val) values. Without: over everything of a sample, as (N, 1, k), or with
    values in a second row (N, 2, k).
    """
    message = scope.fields.argmax_param
    value = scope.one()
    shape = scope.shape(value)
    along = message.HasField("axis")
    if not shape:
        raise LayerError("it needs at least one axis")
    axis = scope.axis(message.axis, len(shape)) if along else 1
    if not along:
        size = 1
        for dim in shape[1:]:
            size *= dim
        shape = (shape[0], size)
        value = scope.emit("Flatten", [value], shape, axis=1)
    size, count = shape[axis], int(message.top_k)
    if not 1 <= count <= size:
        raise LayerError("top_k is outside of the axis", got=str(count), expected=f"1 to {size}")
    best, places = _top(scope, value, shape, axis, count)
    if along:
        return [best if message.out_max_val else places]
    row = (shape[0], 1, count)
    rows = [scope.reshape(part, row, row) for part in ([places, best] if message.out_max_val else [places])]
    return [rows[0] if len(rows) == 1 else scope.emit("Concat", rows, (shape[0], 2, count), axis=1)]


def _top(scope: Scope, value: Value, shape: Shape, axis: int, count: int) -> tuple[Value, Value]:
    """Greatest values and their places. ONNX gives the first of equals, so the axis is turned round."""
    size = shape[axis]
    result = (*shape[:axis], count, *shape[axis + 1 :])
    turned = scope.emit("Gather", [value, scope.ints(range(size - 1, -1, -1), "backwards")], shape, axis=axis)
    best, found = scope.emit_many("TopK", [turned, scope.ints([count], "k")], [result, result], axis=axis)
    places = scope.emit("Cast", [found], result, to=1)
    return best, scope.binary("Sub", scope.scalar(size - 1, "last"), places)


def batch_norm(scope: Scope) -> list[Value]:
    """(x - mean) / sqrt(variance + eps), without scale and shift of its own.

    Statistics are stored as sums with a common factor: mean = blob0 / blob2, variance = blob1 / blob2, or 0 where the
    factor is 0. With use_global_stats false they are those of the batch itself.
    """
    import numpy as np

    message = scope.fields.batch_norm_param
    value = scope.one()
    shape = scope.shape(value)
    channels = shape[1] if len(shape) > 1 else 1
    sums, squares = scope.blob(0, [channels], "mean"), scope.blob(1, [channels], "variance")
    factor = float(scope.blob(2, [1], "scale factor")[0])
    if message.HasField("use_global_stats") and not message.use_global_stats:
        scope.graph.notes.append(f"{scope.layer} normalizes by the statistics of the batch that it gets")
        axes = [axis for axis in range(len(shape)) if axis != 1]
        centred = scope.binary("Sub", value, scope.reduce("ReduceMean", value, axes))
        spread = scope.reduce("ReduceMean", scope.binary("Mul", centred, centred), axes)
        return [_over_root(scope, centred, spread, message.eps)]
    turn = 0.0 if factor == 0 else 1 / factor
    mean, variance = (part.astype(np.float64) * turn for part in (sums, squares))
    if len(shape) < 2:
        raise LayerError("it needs channels on axis 1", got=str(list(shape)))
    inputs = [
        value, scope.constant(np.ones(channels), "scale"), scope.constant(np.zeros(channels), "bias"),
        scope.constant(mean, "mean"), scope.constant(variance, "variance"),
    ]  # fmt: skip
    return [scope.emit("BatchNormalization", inputs, shape, epsilon=message.eps)]


def _over_root(scope: Scope, value: Value, square: Value, eps: float) -> Value:
    """value / sqrt(square + eps)."""
    root = scope.binary("Add", square, scope.scalar(eps, "eps"))
    return scope.binary("Div", value, scope.emit("Sqrt", [root], root.shape))


def mvn(scope: Scope) -> list[Value]:
    """x less its mean over H and W (across_channels: C too), divided by the deviation + eps (outside of the root)."""
    message = scope.fields.mvn_param
    value = scope.one()
    shape = scope.shape(value)
    axes = range(1 if message.across_channels else 2, len(shape))
    if not axes:
        raise LayerError("it needs spatial axes", got=str(list(shape)))
    centred = scope.binary("Sub", value, scope.reduce("ReduceMean", value, axes))
    if not message.normalize_variance:
        return [centred]
    spread = scope.reduce("ReduceMean", scope.binary("Mul", centred, centred), axes)
    deviation = scope.emit("Sqrt", [spread], spread.shape)
    return [scope.binary("Div", centred, scope.binary("Add", deviation, scope.scalar(message.eps, "eps")))]


def normalize(scope: Scope) -> list[Value]:
    """x / sqrt(sum of x^2 + eps) * scale (SSD).

    The sum goes over C, H and W, or with across_spatial false over C at each place; the scale is one value
    (channel_shared) or one a channel.
    """
    message = scope.fields.norm_param
    value = scope.one()
    shape = scope.shape(value)
    if len(shape) < 2:
        raise LayerError("it needs channels on axis 1", got=str(list(shape)))
    count = 1 if message.channel_shared else shape[1]
    factor: NDArray[Any] = scope.blob(0, [count], "scale").reshape(1, count, *[1] * (len(shape) - 2))
    axes = range(1, len(shape)) if message.across_spatial else [1]
    squares = scope.reduce("ReduceSumSquare", value, axes)
    unit = _over_root(scope, value, squares, message.eps)
    return [scope.binary("Mul", unit, scope.constant(factor, "scale"))]


RULES: Final[Rules] = {
    "ArgMax": arg_max,
    "BatchNorm": batch_norm,
    "Bias": bias,
    "Eltwise": eltwise,
    "MVN": mvn,
    "Normalize": normalize,
    "Reduction": reduction,
    "Scale": scale,
    "Softmax": softmax,
}
