"""How each operator of ONNX is said in Caffe's layers: one function an operator, a module a family."""

from __future__ import annotations

from functools import cache

from sdkpack_caffe.writer.scope import NodeRules

__all__ = ["node_rules"]


@cache
def node_rules() -> NodeRules:
    """All operators that can be written, by name."""
    from sdkpack_caffe.writer.operators import (
        activations,
        arithmetic,
        convolution,
        joined,
        logic,
        normalization,
        pooling,
        recurrent,
        reduction,
        resize,
        shapes,
        unpooling,
    )

    families = (
        activations, arithmetic, convolution, joined, logic, normalization, pooling, recurrent, reduction, resize,
        shapes, unpooling,
    )  # fmt: skip
    return {name: rule for family in families for name, rule in family.RULES.items()}
