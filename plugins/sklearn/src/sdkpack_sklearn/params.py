"""What a recipe may set for each of the formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LightGBMParams", "SklearnParams", "XGBoostParams"]

Labels = Literal["values", "numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnParams:
    """Settings for models that scikit-learn saved."""

    labels: Labels = "values"
    """What the output `label` of a classifier holds: the classes as they were trained, text where they are text; or
    their numbers, 0 for the first of `classes_`."""
    any_version: bool = False
    """Takes a model that another version of scikit-learn saved. What that changes nobody can tell: the comparison with
    the source does not show it, since source and result then come from the same object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XGBoostParams:
    """Settings for XGBoost's own files."""

    rounds: int = 0
    """How many rounds of boosting count; 0: as many as the class that saved the model would use."""

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds is {self.rounds}, expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class LightGBMParams:
    """Settings for LightGBM's own files."""

    rounds: int = 0
    """How many rounds of boosting count; 0: all that are in the file."""

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds is {self.rounds}, expected 0 or more")
