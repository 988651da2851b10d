"""Layers that compute each value from itself alone."""

from __future__ import annotations

import math
from typing import Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Value

__all__ = ["RULES"]


def _plain(scope: Scope, op: str, **attributes: Any) -> list[Value]:
    value = scope.one()
    return [scope.emit(op, [value], value.shape, **attributes)]


def relu(scope: Scope) -> list[Value]:
    """x above 0, else negative_slope (0) * x."""
    slope = scope.fields.relu_param.negative_slope
    return _plain(scope, "LeakyRelu", alpha=slope) if slope else _plain(scope, "Relu")


def prelu(scope: Scope) -> list[Value]:
    """x above 0, else a * x, with one a for each channel of axis 1, or one for all (channel_shared)."""
    value = scope.one()
    shape = scope.shape(value)
    if len(shape) < 2:
        raise LayerError("it needs channels on axis 1", got=str(list(shape)))
    count = 1 if scope.fields.prelu_param.channel_shared else shape[1]
    slope = scope.blob(0, [count], "slopes").reshape(count, *[1] * (len(shape) - 2))
    return [scope.emit("PRelu", [value, scope.constant(slope, "slope")], shape)]


def elu(scope: Scope) -> list[Value]:
    """x above 0, else alpha * (e^x - 1)."""
    return _plain(scope, "Elu", alpha=scope.fields.elu_param.alpha)


def sigmoid(scope: Scope) -> list[Value]:
    """1 / (1 + e^-x)."""
    return _plain(scope, "Sigmoid")


def tanh(scope: Scope) -> list[Value]:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return _plain(scope, "Tanh")


def absolute(scope: Scope) -> list[Value]:
    """|x|."""
    return _plain(scope, "Abs")


def bnll(scope: Scope) -> list[Value]:
    """ln(1 + e^x), computed as max(x, 0) + ln(1 + e^-|x|): large x does not overflow."""
    value = scope.one()
    one = scope.scalar(1, "one")
    small = scope.emit("Exp", [scope.emit("Neg", [scope.emit("Abs", [value], value.shape)], value.shape)], value.shape)
    rest = scope.emit("Log", [scope.binary("Add", small, one)], value.shape)
    return [scope.binary("Add", scope.emit("Relu", [value], value.shape), rest)]


def _affine(scope: Scope, value: Value, scale: float, shift: float) -> Value:
    """scale * x + shift, without steps that change nothing."""
    if scale != 1:
        value = scope.binary("Mul", value, scope.scalar(scale, "scale"))
    if shift != 0:
        value = scope.binary("Add", value, scope.scalar(shift, "shift"))
    return value


def power(scope: Scope) -> list[Value]:
    """(shift + scale * x) ^ power; 1 everywhere where power is 0, shift ^ power where scale is 0."""
    message = scope.fields.power_param
    value = scope.one()
    if message.power == 0 or message.scale == 0:
        fixed = 1.0 if message.power == 0 else float(message.shift) ** float(message.power)
        if isinstance(fixed, complex):
            raise LayerError("it takes a root of a negative shift", got=f"{message.shift} ^ {message.power}")
        # Not x * 0 + c: that would be NaN for an infinite x.
        same = scope.emit("Shape", [value], (len(scope.shape(value)),), floats=False)
        return [scope.emit("Expand", [scope.scalar(fixed, "value"), same], value.shape)]
    value = _affine(scope, value, message.scale, message.shift)
    if message.power != 1:
        value = scope.binary("Pow", value, scope.scalar(message.power, "power"))
    return [value]


def exponential(scope: Scope) -> list[Value]:
    """base ^ (shift + scale * x); base -1 stands for e."""
    message = scope.fields.exp_param
    factor = _log_of_base(message.base)
    value = _affine(scope, scope.one(), message.scale * factor, message.shift * factor)
    return [scope.emit("Exp", [value], value.shape)]


def logarithm(scope: Scope) -> list[Value]:
    """log to `base` of (shift + scale * x); base -1 stands for e."""
    message = scope.fields.log_param
    value = _affine(scope, scope.one(), message.scale, message.shift)
    value = scope.emit("Log", [value], value.shape)
    return [_affine(scope, value, 1 / _log_of_base(message.base), 0)]


def _log_of_base(base: float) -> float:
    if base == -1:
        return 1.0
    if base <= 0 or base == 1:
        raise LayerError("no such base", got=f"{base:g}", expected="-1 for e, or above 0 and not 1")
    return math.log(base)


def swish(scope: Scope) -> list[Value]:
    """x / (1 + e^(-beta x))."""
    value = scope.one()
    inner = _affine(scope, value, scope.fields.swish_param.beta, 0)
    return [scope.binary("Mul", value, scope.emit("Sigmoid", [inner], value.shape))]


def _clipped(scope: Scope, value: Value, low: float, high: float) -> Value:
    return scope.emit("Clip", [value, scope.scalar(low, "min"), scope.scalar(high, "max")], value.shape)


def clip(scope: Scope) -> list[Value]:
    """min where x is less, max where x is more."""
    message = scope.fields.clip_param
    if not (message.HasField("min") and message.HasField("max")) or message.min > message.max:
        raise LayerError("it needs min and max, min not above max", got=f"{message.min:g}, {message.max:g}")
    return [_clipped(scope, scope.one(), message.min, message.max)]


def relu6(scope: Scope) -> list[Value]:
    """x within 0 and 6."""
    return [_clipped(scope, scope.one(), 0, 6)]


def threshold(scope: Scope) -> list[Value]:
    """1 where x is above the threshold (0), else 0."""
    value = scope.one()
    limit = scope.scalar(scope.fields.threshold_param.threshold, "threshold")
    above = scope.emit("Greater", [value, limit], value.shape, floats=False)
    return [scope.emit("Cast", [above], value.shape, to=1)]


def dropout(scope: Scope) -> list[Value]:
    """x: training has already scaled what it dropped from."""
    return [scope.one()]


RULES: Final[Rules] = {
    "AbsVal": absolute,
    "BNLL": bnll,
    "Clip": clip,
    "Dropout": dropout,
    "ELU": elu,
    "Exp": exponential,
    "Log": logarithm,
    "PReLU": prelu,
    "Power": power,
    "ReLU": relu,
    "ReLU6": relu6,
    "Sigmoid": sigmoid,
    "Swish": swish,
    "TanH": tanh,
    "Threshold": threshold,
}
