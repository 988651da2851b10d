"""Compressors: ONNX in, ONNX out, what it computes changed within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext
from sdkpack.plugin.runtime import ModelInput, Probe

__all__ = ["CompressRequest", "CompressResult", "Compressor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressRequest:
    """One model to compress."""

    model: ModelInput
    precision: str
    """One of the descriptor's."""
    params: Any = None
    """An instance of the descriptor's params dataclass."""
    samples: tuple[Path, ...] = ()
    """npz files with real inputs, named by digest; they never enter a bundle."""
    budget: float | None = None
    """The normalised error that may be spent, where the recipe states one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressResult:
    """The compressed model."""

    model: Path
    """In the work folder; ONNX, with external data beside it where it has any."""
    precision: str
    notes: tuple[str, ...] = ()
    """What stayed as it was, and why."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what did the work, by name."""


@runtime_checkable
class Compressor(Protocol):
    """One way of spending accuracy. Inputs and outputs keep their names, types and shapes.

    The core measures what it costs: both models on the same inputs, normalised error and SNR of each output. The
    recipe's budget is held against that, never against what a compressor says of itself.
    """

    def probe(self) -> Probe:
        """Says whether the toolchain is there, without loading it for long or changing anything."""
        ...

    def compress(self, request: CompressRequest, context: StepContext) -> CompressResult:
        """Compresses one model.

        Raises:
            sdkpack.errors.ModelError: the model holds what cannot be compressed.
            sdkpack.errors.StepError: the toolchain failed.
        """
        ...
