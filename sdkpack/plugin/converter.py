"""Converters: from a model of another format to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext
from sdkpack.plugin.runtime import Probe
from sdkpack.types import TensorSpec

__all__ = ["ConvertRequest", "ConvertResult", "Converter", "SniffRequest", "SniffResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SniffRequest:
    """A file that may be of the converter's format."""

    source: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SniffResult:
    """How sure a converter is."""

    score: float
    """0: not mine; 1: certainly mine. Magic bytes count as 0.8, a file name's suffix as 0.3."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """One model to convert."""

    name: str
    """The recipe's, for messages."""
    source: Path
    """The author's file, not to be written to."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Further files by the name that the recipe gives them: `prototxt`, `config`."""
    params: Any = None
    """An instance of the descriptor's params dataclass."""
    inputs: tuple[TensorSpec, ...] = ()
    """Inputs as the author declares them, for formats that do not say; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """The converted model."""

    model: Path
    """In the work folder; ONNX in one file."""
    notes: tuple[str, ...] = ()
    """What the author should know: a layer that was approximated, a dimension that was fixed."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what did the work, by name; they stand in the evidence."""


@runtime_checkable
class Converter(Protocol):
    """Reads one format and writes ONNX. The same class works in this process or in one of its own.

    A source file is untrusted: code in it (a pickle, a Lambda layer) must not run. Where the format's library cannot
    promise that, the descriptor asks for isolation.
    """

    def probe(self) -> Probe:
        """Says whether the toolchain is there, without loading it for long or changing anything."""
        ...

    def sniff(self, request: SniffRequest) -> SniffResult:
        """Says whether a file is of its format; only called with the capability `sniff`.

        A damaged file is no error here.
        """
        ...

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Converts one model.

        Raises:
            sdkpack.errors.ModelError: the file is damaged, of another format, or uses what cannot be converted; all
                such uses are named at once.
            sdkpack.errors.StepError: the toolchain failed.
        """
        ...
