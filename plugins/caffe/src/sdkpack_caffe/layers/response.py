"""LRN: values divided by the strength of their neighbours."""

from __future__ import annotations

from typing import Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Value
from sdkpack_caffe.layers.pooling import within_channel_mean

__all__ = ["RULES"]


def lrn(scope: Scope) -> list[Value]:
    """x * (k + alpha / n * sum of x^2 over n channels around) ^ -beta.

    WITHIN_CHANNEL: x * (1 + alpha * mean of x^2 over n x n places around) ^ -beta, where padding counts as zeros and k
    has no meaning.
    """
    message = scope.fields.lrn_param
    value = scope.one()
    shape = scope.shape(value, 4)
    size = int(message.local_size)
    if size % 2 == 0:
        raise LayerError("local_size is odd", got=str(size))
    if message.norm_region == 0:
        return [
            scope.emit("LRN", [value], shape, size=size, alpha=message.alpha, beta=message.beta, bias=message.k)
        ]  # fmt: skip
    mean = within_channel_mean(scope, scope.binary("Mul", value, value), shape, size)
    inner = scope.binary("Mul", mean, scope.scalar(message.alpha, "alpha"))
    inner = scope.binary("Add", inner, scope.scalar(1, "one"))
    return [scope.binary("Mul", value, scope.binary("Pow", inner, scope.scalar(-message.beta, "power")))]


RULES: Final[Rules] = {"LRN": lrn}
