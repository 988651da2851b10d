"""Normalizations: by stored statistics, by those of the values themselves, by neighbours, and Softmax."""

from __future__ import annotations

import math
from typing import Any, Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.arithmetic import plus, times_constant
from sdkpack_caffe.writer.operators.pooling import pool_globally
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES"]


def batch_normalization(scope: NodeScope) -> Blob:
    """BatchNorm, then Scale where scale and shift are not 1 and 0."""
    import numpy as np

    if scope.attribute("training_mode", 0):
        raise NodeError("it is in training mode", hint="export the model for inference: model.eval()")
    if scope.opset < 9 and not scope.attribute("spatial", 1):
        raise NodeError("statistics for each place have no layer", got="spatial=0")
    value = scope.bottom(0)
    if len(value.shape) < 2:
        raise NodeError("it needs channels on axis 1", got=str(list(value.shape)))
    gamma, beta, mean, variance = (
        scope.constant(number, what) for number, what in enumerate(("scales", "shifts", "means", "variances"), start=1)
    )
    epsilon = float(scope.attribute("epsilon", 1e-5))
    fields: dict[str, Any] = {"use_global_stats": True}
    if np.float32(epsilon) != np.float32(1e-5):
        fields["eps"] = epsilon
    value = scope.plain("BatchNorm", value, "norm", batch_norm_param=fields)
    scope.draft.layers[-1].weights.extend(np.asarray(part, np.float32) for part in (mean, variance, np.ones(1)))
    if (gamma == 1).all() and (beta == 0).all():
        return value
    return scope.scale(value, gamma, beta, 1)


def _normal(scope: NodeScope, value: Blob, rows: int, epsilon: float) -> Blob:
    """(x - mean) / sqrt(variance + epsilon), mean and variance over each of `rows` equal parts of the values.

    MVN takes the mean away; its own variance has epsilon outside of the root, so the rest is Pooling, Power and Scale.
    """
    shape = value.shape
    wide = scope.reshape(value, (1, rows, math.prod(shape) // rows, 1))
    centred = scope.plain("MVN", wide, "centred", mvn_param={"normalize_variance": False})
    square = scope.eltwise("PROD", [centred, centred])
    spread = scope.reshape(pool_globally(scope, square, "AVE"), (1, rows))
    inverse = scope.power(spread, shift=epsilon, power=-0.5, suffix="inverse")
    found = scope.add("Scale", [centred, inverse], centred.shape, "normal", scale_param={"axis": 0})
    return scope.reshape(found, shape)


def _finish(scope: NodeScope, value: Blob, gamma: Any, beta: Any) -> Blob:
    import numpy as np

    value = times_constant(scope, value, gamma.astype(np.float64), value.shape) if gamma is not None else value
    return plus(scope, value, beta.astype(np.float64), value.shape) if beta is not None else value


def instance_normalization(scope: NodeScope) -> Blob:
    """MVN without variance, Pooling, Power and Scale."""
    shape = scope.shape(0)
    found = _normal(scope, scope.bottom(0), shape[0] * shape[1], float(scope.attribute("epsilon", 1e-5)))
    gamma, beta = scope.constant(1, "scales"), scope.constant(2, "shifts")
    return _finish(scope, found, *(part.reshape(-1, *[1] * (len(shape) - 2)) for part in (gamma, beta)))


def layer_normalization(scope: NodeScope) -> Blob:
    """MVN without variance, Pooling, Power and Scale."""
    if scope.wants(1) or scope.wants(2):
        raise NodeError("its mean and deviation are used, and no layer gives them")
    shape = scope.shape(0)
    axis = scope.axis(int(scope.attribute("axis", -1)), len(shape))
    found = _normal(scope, scope.bottom(0), math.prod(shape[:axis]), float(scope.attribute("epsilon", 1e-5)))
    beta = scope.constant(2, "shifts") if scope.has(2) else None
    return _finish(scope, found, scope.constant(1, "scales"), beta)


def group_normalization(scope: NodeScope) -> Blob:
    """MVN without variance, Pooling, Power and Scale."""
    import numpy as np

    shape, groups = scope.shape(0), int(scope.attribute("num_groups"))
    found = _normal(scope, scope.bottom(0), shape[0] * groups, float(scope.attribute("epsilon", 1e-5)))
    gamma, beta = scope.constant(1, "scales"), scope.constant(2, "shifts")
    if scope.opset < 21:
        gamma, beta = (np.repeat(part, shape[1] // groups) for part in (gamma, beta))
    return _finish(scope, found, *(part.reshape(-1, *[1] * (len(shape) - 2)) for part in (gamma, beta)))


def mean_variance(scope: NodeScope) -> Blob:
    """MVN; ONNX adds 1e-9 to the deviation as Caffe does."""
    value, axes = scope.bottom(0), list(scope.attribute("axes", [0, 2, 3]))
    if sorted(scope.axis(axis, len(value.shape)) for axis in axes) == [2, 3] and len(value.shape) == 4:
        return scope.plain("MVN", value, "mvn")
    if sorted(scope.axis(axis, len(value.shape)) for axis in axes) == [1, 2, 3] and len(value.shape) == 4:
        return scope.plain("MVN", value, "mvn", mvn_param={"across_channels": True})
    raise NodeError("MVN goes over H and W, or over C, H and W", got=f"axes {axes}")


def lrn(scope: NodeScope) -> Blob:
    """LRN across channels."""
    size = int(scope.attribute("size"))
    scope.shape(0, 4)
    if size % 2 == 0:
        raise NodeError("local_size is odd in Caffe", got=str(size))
    given = {"alpha": scope.attribute("alpha", 1e-4), "beta": scope.attribute("beta", 0.75),
             "k": scope.attribute("bias", 1.0)}  # fmt: skip
    usual = {"alpha": 1.0, "beta": 0.75, "k": 1.0}
    fields = {name: float(value) for name, value in given.items() if value != usual[name]}
    return scope.plain("LRN", scope.bottom(0), "lrn", lrn_param={"local_size": size, **fields})


def softmax(scope: NodeScope) -> Blob:
    """Softmax; before opset 13, over all axes from `axis` on."""
    value = scope.bottom(0)
    rank = len(value.shape)
    axis = scope.axis(int(scope.attribute("axis", -1 if scope.opset >= 13 else 1)), rank)
    if scope.opset >= 13 or all(size == 1 for size in value.shape[axis + 1 :]):
        return scope.plain("Softmax", value, "softmax", softmax_param={} if axis == 1 else {"axis": axis})
    flat = scope.reshape(value, (math.prod(value.shape[:axis]), math.prod(value.shape[axis:])))
    return scope.reshape(scope.plain("Softmax", flat, "softmax"), value.shape)


def log_softmax(scope: NodeScope) -> Blob:
    """Softmax, then Log: less exact than ONNX's where a share is close to 0."""
    scope.draft.note(f"node {scope.node.label!r} is a logarithm of shares: those below 1e-38 become minus infinity")
    return scope.plain("Log", softmax(scope), "log")


def lp_normalization(scope: NodeScope) -> Blob:
    """Normalize (SSD) for p = 2 over channels."""
    import numpy as np

    value = scope.bottom(0)
    axis = scope.axis(int(scope.attribute("axis", -1)), len(value.shape))
    if int(scope.attribute("p", 2)) != 2 or axis != 1 or len(value.shape) != 4:
        raise NodeError("Normalize goes over the channels of (N, C, H, W), with p = 2",
                        got=f"axis {axis} of {list(value.shape)}, p {scope.attribute('p', 2)}")  # fmt: skip
    found = scope.plain("Normalize", value, "normal",
                        norm_param={"across_spatial": False, "channel_shared": False})  # fmt: skip
    scope.draft.layers[-1].weights.append(np.ones(value.shape[1], np.float32))
    scope.draft.note(f"node {scope.node.label!r}: Normalize adds 1e-10 below the root")
    return found


RULES: Final[NodeRules] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance,
    "Softmax": softmax,
}
