"""What a recipe may set: `with` of a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FoldParams", "InformationParams", "OpsetParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldParams:
    """Of `optimize.fold-constants`."""

    max_elements: int = 512 * 512
    """The largest tensor that a folded node may leave; larger ones are computed in each run."""

    def __post_init__(self) -> None:
        if self.max_elements < 1:
            raise ValueError("max_elements: at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsetParams:
    """Of `optimize.opset`."""

    target: int | None = None
    """Version of ONNX's own operators; None: the nearest one that the targets take, which is mostly the model's own."""

    def __post_init__(self) -> None:
        if self.target is not None and self.target < 7:
            raise ValueError("target: 7 or later; what the converter knows begins there")


@dataclass(frozen=True, slots=True, kw_only=True)
class InformationParams:
    """Of `optimize.information`. Texts and entries about licences and copyright are kept in any case."""

    docs: Literal["drop", "keep"] = "drop"
    """Texts for people, of the model, graphs, nodes, values and tensors."""
    node_metadata: Literal["drop", "keep"] = "drop"
    """What exporters note at nodes, graphs and values: stack traces with the author's paths, mostly."""
    metadata: Literal["keep", "licence"] = "keep"
    """The model's own entries, which a bundle may read as `model-metadata://`; `licence`: only those about it."""
    producer: Literal["keep", "drop"] = "keep"
    """Name and version of the program that exported the model."""
    shapes: Literal["foreign", "keep", "drop"] = "foreign"
    """Types and shapes of inner values: those that operators of other domains make, which nothing can infer (all of
    them in a model with control flow, behind which nothing can either); all; or none. Those of values that are gone
    always go. onnxruntime does worse with all of them: it then fuses what it computes slower, SkipLayerNormalization
    for one (10 % of an encoder)."""
    names: Literal["missing", "all"] = "missing"
    """Which nodes get the name OPERATOR_NUMBER: those with none or another node's, or all of them."""
