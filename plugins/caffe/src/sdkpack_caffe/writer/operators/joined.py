"""What patterns of several operators stand for."""

from __future__ import annotations

from typing import Any, Final

from sdkpack_caffe.writer.draft import Blob
from sdkpack_caffe.writer.operators.pooling import average
from sdkpack_caffe.writer.operators.reduction import arg_max_layer
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES"]


def average_pool(scope: NodeScope) -> Blob:
    """Pooling AVE, then Scale where the factors are not Caffe's divisors."""
    return average(scope, scope.attribute("factors"))


def batch_norm(scope: NodeScope) -> Blob:
    """BatchNorm by the statistics of the batch."""
    import numpy as np

    value = scope.bottom(0)
    found = scope.plain("BatchNorm", value, batch_norm_param={"use_global_stats": False, "eps": scope.attribute("eps")})
    channels = value.shape[1]
    scope.draft.layers[-1].weights.extend(np.zeros(count, np.float32) for count in (channels, channels, 1))
    return found


def mvn(scope: NodeScope) -> Blob:
    """MVN."""
    fields: dict[str, Any] = {"across_channels": True} if scope.attribute("across") else {}
    if not scope.attribute("variance"):
        fields["normalize_variance"] = False
    elif abs(scope.attribute("eps") - 1e-9) > 1e-15:
        fields["eps"] = scope.attribute("eps")
    return scope.plain("MVN", scope.bottom(0), mvn_param=fields)


def normalize(scope: NodeScope) -> Blob:
    """Normalize (SSD)."""
    import numpy as np

    value, scale = scope.bottom(0), scope.attribute("scale")
    scale = np.ones(1, np.float32) if scale is None else scale.ravel()
    fields: dict[str, Any] = {"across_spatial": bool(scope.attribute("across")), "channel_shared": len(scale) == 1}
    if abs(scope.attribute("eps") - 1e-10) > 1e-16:
        fields["eps"] = scope.attribute("eps")
    found = scope.plain("Normalize", value, norm_param=fields)
    scope.draft.layers[-1].weights.append(scale)
    return found


def lrn(scope: NodeScope) -> Blob:
    """LRN within channels."""
    fields = {"local_size": scope.attribute("size"), "alpha": scope.attribute("alpha"),
              "beta": scope.attribute("beta"), "norm_region": "WITHIN_CHANNEL"}  # fmt: skip
    return scope.plain("LRN", scope.bottom(0), lrn_param=fields)


def top_k(scope: NodeScope) -> list[Blob | None]:
    """ArgMax with top_k; places are counted from the end of the axis."""
    value = scope.bottom(0)
    axis = scope.axis(int(scope.attribute("axis", -1)), len(value.shape))
    count = (scope.setting("k", 1) or [0])[0]
    found: list[Blob | None] = [None, None]
    if scope.wants(0):
        found[0] = arg_max_layer(scope, value, axis, count, values=True)
    if scope.wants(1):
        places = arg_max_layer(scope, value, axis, count, values=False)
        found[1] = scope.power(places, scale=-1, shift=value.shape[axis] - 1)
    return found


def detection_output(scope: NodeScope) -> Blob:
    """DetectionOutput (SSD); how many rows it has is known when it is computed only."""
    priors = scope.draft.constant(scope.attribute("priors"), f"{scope.name}_priors")
    bottoms = [scope.bottom(0), scope.bottom(1), priors]
    return scope.add("DetectionOutput", bottoms, (1, 1, 1, 7), "rows", detection_output_param=scope.attribute("fields"))


RULES: Final[NodeRules] = {
    "caffe.AveragePool": average_pool,
    "caffe.BatchNorm": batch_norm,
    "caffe.DetectionOutput": detection_output,
    "caffe.LRN": lrn,
    "caffe.MVN": mvn,
    "caffe.Normalize": normalize,
    "caffe.TopK": top_k,
}
