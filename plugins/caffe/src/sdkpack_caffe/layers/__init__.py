"""What each type of layer computes, as ONNX: one function a type, a module a family."""

from __future__ import annotations

from functools import cache

from sdkpack_caffe.graph import LayerFunction, Rules
from sdkpack_caffe.prototxt import DATA_LAYERS

__all__ = ["is_dropped", "is_training_data", "rule_for", "rules"]

_DROPPED = frozenset({"Accuracy", "DetectionEvaluate", "HDF5Output", "Silence"})


@cache
def rules() -> Rules:
    """All layers that can be converted, by type."""
    from sdkpack_caffe.layers import (
        activations,
        arithmetic,
        convolution,
        detections,
        pooling,
        priors,
        recurrent,
        response,
        shapes,
        sizes,
    )

    families = (activations, arithmetic, convolution, detections, pooling, priors, recurrent, response, shapes, sizes)
    return {name: rule for family in families for name, rule in family.RULES.items()}


def rule_for(kind: str) -> LayerFunction | None:
    return rules().get(kind)


def is_training_data(kind: str) -> bool:
    """Whether a layer reads a data set."""
    return kind in DATA_LAYERS


def is_dropped(kind: str) -> bool:
    """Whether a layer only measures or ends something, and nothing at inference needs it."""
    return kind in _DROPPED or kind.endswith("Loss")
