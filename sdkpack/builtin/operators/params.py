"""What a recipe may set of the built-in operators; standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sdkpack.plugin import Lines

__all__ = [
    "AboveParams",
    "CtcGreedyParams",
    "FilterParams",
    "LookupParams",
    "ReadingOrderParams",
    "SoftmaxParams",
    "SortParams",
    "TopKParams",
    "ZipParams",
]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxParams:
    axis: int = -1
    temperature: float = 1.0
    """Scores are divided by it first."""

    def __post_init__(self) -> None:
        _require(math.isfinite(self.temperature) and self.temperature > 0, "temperature must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AboveParams:
    index: int
    """The class that is asked for."""
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require(self.index >= 0, f"index must not be negative, got {self.index}")
        _require(math.isfinite(self.threshold), "threshold must be finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKParams:
    k: int = 5
    labels: Lines = ()
    """A name for each class; empty: the class's number stands for it."""

    def __post_init__(self) -> None:
        _require(1 <= self.k <= 10_000, f"k must be between 1 and 10000, got {self.k}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupParams:
    labels: Lines

    def __post_init__(self) -> None:
        _require(bool(self.labels), "labels must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class CtcGreedyParams:
    alphabet: Lines
    """One character, or group of characters, for each class but the blank."""
    blank: Literal["first", "last"] = "first"
    """Where among the classes the blank stands."""
    add_space: bool = False
    """One more class after the alphabet stands for a space."""

    def __post_init__(self) -> None:
        _require(bool(self.alphabet), "alphabet must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterParams:
    threshold: float
    key: str = ""
    """The field of a record that is compared; empty: the item itself."""
    keep: Literal["at_least", "above", "at_most", "below"] = "at_least"
    """Which side of the threshold stays."""

    def __post_init__(self) -> None:
        _require(math.isfinite(self.threshold), f"threshold must be finite, got {self.threshold}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SortParams:
    key: str = ""
    """The field of a record to sort by; empty: the item itself."""
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipParams:
    keys: tuple[str, ...]
    """Names of the records' fields, in the order of the connected lists."""

    def __post_init__(self) -> None:
        _require(1 <= len(self.keys) <= 8, f"keys must be 1 to 8 names, got {len(self.keys)}")
        _require(len(set(self.keys)) == len(self.keys), "keys must differ from each other")
        _require(all(key.isidentifier() for key in self.keys), "keys must be words of letters, digits and _")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOrderParams:
    line_px: float = 10.0
    """Boxes whose upper left corners differ by less than this in height stand on one line."""

    def __post_init__(self) -> None:
        _require(math.isfinite(self.line_px) and self.line_px >= 0, "line_px must not be negative")
