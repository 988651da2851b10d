"""Operators that compute each value from itself alone."""

from __future__ import annotations

from typing import Any, Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.arithmetic import bounded, product, times_constant
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES", "clipped"]


def _layer(kind: str) -> Any:
    def rule(scope: NodeScope) -> Blob:
        return scope.plain(kind, scope.bottom(0), kind.lower())

    rule.__doc__ = f"{kind}."
    return rule


def leaky_relu(scope: NodeScope) -> Blob:
    """ReLU with negative_slope."""
    slope = float(scope.attribute("alpha", 0.01))
    return scope.plain("ReLU", scope.bottom(0), relu_param={"negative_slope": slope} if slope else {})


def prelu(scope: NodeScope) -> Blob:
    """PReLU for a slope for each channel, ReLU with negative_slope for one; else ReLU(x) - slope * ReLU(-x)."""
    import numpy as np

    value, shape = scope.bottom(0), scope.shape(0)
    slope = scope.constant(1, "slopes") if scope.is_constant(1) else None
    if slope is not None:
        if len(np.unique(slope)) == 1:
            return scope.plain("ReLU", value, relu_param={"negative_slope": float(slope.ravel()[0])})
        aligned = (*[1] * (len(shape) - slope.ndim), *slope.shape)
        if len(shape) > 1 and all(size == 1 for axis, size in enumerate(aligned) if axis != 1):
            return scope.add("PReLU", [value], shape, weights=[slope.ravel()])
    negative = scope.plain("ReLU", scope.power(value, scale=-1), "negative")
    if slope is not None:
        part = times_constant(scope, negative, slope.astype(np.float64), shape)
    else:
        part = product(scope, negative, scope.bottom(1), shape)
    return scope.eltwise("SUM", [scope.plain("ReLU", value, "positive"), part], [1, -1])


def elu(scope: NodeScope) -> Blob:
    """ELU."""
    alpha = float(scope.attribute("alpha", 1))
    return scope.plain("ELU", scope.bottom(0), elu_param={"alpha": alpha} if alpha != 1 else {})


def selu(scope: NodeScope) -> Blob:
    """ELU, then Power with the scale gamma."""
    alpha = float(scope.attribute("alpha", 1.67326319217681884765625))
    found = scope.plain("ELU", scope.bottom(0), "elu", elu_param={"alpha": alpha})
    return scope.power(found, scale=float(scope.attribute("gamma", 1.05070102214813232421875)))


def celu(scope: NodeScope) -> Blob:
    """Power, ELU, Power: alpha * ELU(x / alpha)."""
    alpha = float(scope.attribute("alpha", 1))
    found = scope.plain("ELU", scope.power(scope.bottom(0), scale=1 / alpha), "elu")
    return scope.power(found, scale=alpha, suffix="back")


def softsign(scope: NodeScope) -> Blob:
    """AbsVal, Power and Eltwise PROD: x * (1 + |x|) ^ -1."""
    value = scope.bottom(0)
    inverse = scope.power(scope.plain("AbsVal", value, "abs"), shift=1, power=-1)
    return scope.eltwise("PROD", [value, inverse])


def thresholded_relu(scope: NodeScope) -> Blob:
    """Threshold and Eltwise PROD."""
    value = scope.bottom(0)
    gate = scope.plain("Threshold", value, "above", threshold_param={"threshold": float(scope.attribute("alpha", 1))})
    return scope.eltwise("PROD", [value, gate])


def clip(scope: NodeScope) -> Blob:
    """ReLU from 0 on, ReLU6 from 0 to 6, else Clip; where these are ruled out ReLU and Power."""
    import numpy as np

    limits = []
    for number, (name, sign) in enumerate((("min", -1), ("max", 1)), start=1):
        value = scope.attribute(name, sign * np.inf)
        if scope.has(number):
            value = scope.constant(number, "limits").ravel()[0]
        # What no float32 can pass is no limit: exporters write the largest one.
        limits.append(float(value) if abs(float(value)) < 3.4e38 else sign * np.inf)
    return clipped(scope, scope.bottom(0), *limits)


def clipped(scope: NodeScope, value: Blob, low: float, high: float) -> Blob:
    """min(max(x, low), high); an infinite limit is none."""
    import numpy as np

    if low > high:
        raise NodeError("its limits leave nothing", got=f"{low:g} to {high:g}")
    if (low, high) == (0, np.inf):
        return scope.plain("ReLU", value, "relu")
    if (low, high) == (0, 6) and scope.draft.allows("ReLU6"):
        return scope.plain("ReLU6", value, "relu6")
    if np.isfinite(low) and np.isfinite(high) and scope.draft.allows("Clip"):
        return scope.plain("Clip", value, "clip", clip_param={"min": low, "max": high})
    if np.isfinite(low):
        value = bounded(scope, value, low, 1)
    return bounded(scope, value, high, -1) if np.isfinite(high) else value


def hard_sigmoid(scope: NodeScope) -> Blob:
    """Power and Clip."""
    alpha, beta = float(scope.attribute("alpha", 0.2)), float(scope.attribute("beta", 0.5))
    return clipped(scope, scope.power(scope.bottom(0), scale=alpha, shift=beta), 0, 1)


def hard_swish(scope: NodeScope) -> Blob:
    """Power, Clip and Eltwise PROD."""
    value = scope.bottom(0)
    return scope.eltwise("PROD", [value, clipped(scope, scope.power(value, scale=1 / 6, shift=0.5), 0, 1)])


def swish(scope: NodeScope) -> Blob:
    """Sigmoid and Eltwise PROD, which every Caffe has, in place of a layer Swish."""
    value = scope.bottom(0)
    inner = scope.power(value, scale=float(scope.attribute("alpha", 1)))
    return scope.eltwise("PROD", [value, scope.plain("Sigmoid", inner, "gate")])


def mish(scope: NodeScope) -> Blob:
    """BNLL, TanH and Eltwise PROD."""
    value = scope.bottom(0)
    return scope.eltwise("PROD", [value, scope.plain("TanH", scope.plain("BNLL", value, "bnll"), "tanh")])


def gelu(scope: NodeScope) -> Blob:
    """With approximate = tanh: Power, Eltwise and TanH."""
    if scope.attribute("approximate", "none") != "tanh":
        raise NodeError("Caffe has no error function", got="Gelu with erf", expected='approximate="tanh"',
                        hint="export the model with the tanh form of Gelu")  # fmt: skip
    value = scope.bottom(0)
    cube = scope.eltwise("PROD", [value, scope.power(value, power=2, suffix="square")])
    inner = scope.eltwise("SUM", [value, cube], [0.7978845608028654, 0.7978845608028654 * 0.044715])
    gate = scope.power(scope.plain("TanH", inner, "tanh"), scale=0.5, shift=0.5, suffix="gate")
    return scope.eltwise("PROD", [value, gate])


def neg(scope: NodeScope) -> Blob:
    """Power with the scale -1."""
    return scope.power(scope.bottom(0), scale=-1)


def sqrt(scope: NodeScope) -> Blob:
    """Power with the power 0.5."""
    return scope.power(scope.bottom(0), power=0.5)


def reciprocal(scope: NodeScope) -> Blob:
    """Power with the power -1."""
    return scope.power(scope.bottom(0), power=-1)


def power(scope: NodeScope) -> Blob:
    """Power for a fixed exponent, Exp for a fixed base."""
    import numpy as np

    if scope.is_constant(1):
        exponents = np.unique(scope.constant(1, "exponents"))
        if len(exponents) == 1 and scope.result() == scope.shape(0):
            if exponents[0] == 0:
                return scope.draft.constant(np.ones(scope.result(), np.float32), scope.name)
            return scope.power(scope.bottom(0), power=float(exponents[0]))
    if scope.is_constant(0):
        bases = np.unique(scope.constant(0, "bases"))
        if len(bases) == 1 and bases[0] > 0 and bases[0] != 1 and scope.result() == scope.shape(1):
            return scope.plain("Exp", scope.bottom(1), exp_param={"base": float(bases[0])})
    raise NodeError("it needs one exponent for all values, or one base above 0 that is not 1")


def sign(scope: NodeScope) -> Blob:
    """Two layers Threshold and Eltwise SUM."""
    value = scope.bottom(0)
    above = scope.plain("Threshold", value, "above")
    below = scope.plain("Threshold", scope.power(value, scale=-1), "below")
    return scope.eltwise("SUM", [above, below], [1, -1])


RULES: Final[NodeRules] = {
    "Abs": _layer("AbsVal"),
    "Celu": celu,
    "Clip": clip,
    "Elu": elu,
    "Exp": _layer("Exp"),
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "LeakyRelu": leaky_relu,
    "Log": _layer("Log"),
    "Mish": mish,
    "Neg": neg,
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": reciprocal,
    "Relu": _layer("ReLU"),
    "Selu": selu,
    "Sigmoid": _layer("Sigmoid"),
    "Sign": sign,
    "Softplus": _layer("BNLL"),
    "Softsign": softsign,
    "Sqrt": sqrt,
    "Swish": swish,
    "Tanh": _layer("TanH"),
    "ThresholdedRelu": thresholded_relu,
}
