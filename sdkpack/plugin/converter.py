"""Converters: from a model of another format to ONNX, and from ONNX to another format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext
from sdkpack.plugin.runtime import Probe
from sdkpack.types import TensorSpec

__all__ = [
    "ConvertRequest",
    "ConvertResult",
    "Converter",
    "EvaluateRequest",
    "EvaluateResult",
    "SniffRequest",
    "SniffResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SniffRequest:
    """A file or folder that may be of the converter's format."""

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
    """The author's file, or folder where the format is one; not to be written to."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Further files by the name that the recipe gives them: `prototxt`, `config`."""
    params: Any = None
    """An instance of the descriptor's params dataclass."""
    inputs: tuple[TensorSpec, ...] = ()
    """Inputs as the author declares them, for formats that do not say; may be empty. A dimension that is a name stays
    open under that name."""
    opset: int | None = None
    """The newest version of ONNX's operators that all targets of the model take; None where nobody says. Write it or
    an older one; where the format cannot be said in it, that is a `ModelError`."""
    writes: str = "application/vnd.onnx"
    """The media type to write, one of the descriptor's."""
    allow_code: bool = False
    """The author allows code that the source brings (a Python module, a pickle, a Lambda layer) to run. Never true of
    itself, and never outside of a toolchain's own process: without it such a source is a `ModelError` that says what
    would run and how to allow it. Only converters with the capability `code` see it true."""
    samples: tuple[Path, ...] = ()
    """npz files with inputs that the model takes, by input name: for formats that must be traced. May be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """The converted model."""

    model: Path
    """In the work folder; ONNX in one file, or with external data beside it; or a file of the format asked for."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Further files that a foreign format consists of, in the work folder, by the role under which a converter of the
    other direction takes them in its request's `files`: the core reads back what was written."""
    inputs: tuple[TensorSpec, ...] = ()
    """What the source's format says of the result's inputs beyond ONNX, by name: layout (`NHWC`) and quantisation.
    Types and shapes are read from the result itself."""
    outputs: tuple[TensorSpec, ...] = ()
    """The same of its outputs."""
    notes: tuple[str, ...] = ()
    """What the author should know: a layer that was approximated, a dimension that was fixed."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what did the work, by name; they stand in the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """Runs to make with the source's own framework, so that the converted model can be held against it."""

    conversion: ConvertRequest
    """As `convert` got it."""
    model: Path
    """What `convert` made of it."""
    samples: tuple[Path, ...]
    """npz files, arrays by the *converted* model's input names, with its shapes and types; each is a run of its own
    that begins from the source's initial state (a recurrent model forgets the run before). The same file may stand
    there twice: the core's way of finding a source that is not deterministic."""
    tensors: tuple[str, ...] = ()
    """Names of inner tensors of the converted model that are wanted beside its outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """What the source computes."""

    outputs: tuple[Path, ...]
    """One npz a sample, in their order, in the work folder: arrays by the *converted* model's output names, and those
    `tensors` that the source can show, with the shapes and layout of the converted model. None at all where this source
    cannot be run here; the notes then say why."""
    notes: tuple[str, ...] = ()
    """What the author should know: the source was in training mode."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what ran it, by name."""


@runtime_checkable
class Converter(Protocol):
    """Reads one format and writes ONNX, or the other way. The same class works in this process or in one of its own.

    A source file is untrusted: code in it (a pickle, a Lambda layer) must not run. Where the format's library cannot
    promise that, the descriptor asks for isolation.
    """

    def probe(self) -> Probe:
        """Says whether the toolchain is there, without loading it for long or changing anything."""
        ...

    def sniff(self, request: SniffRequest) -> SniffResult:
        """Says whether a file or folder is of its format; only called with the capability `sniff`.

        A damaged file is no error here. No code of the file may run.
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

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the source with its own framework; only called with the capability `evaluate`.

        The core compares the answers with those of the converted model, and keeps what it found as evidence.

        Raises:
            sdkpack.errors.ModelError: the source does not take these inputs.
            sdkpack.errors.StepError: the toolchain failed.
        """
        ...
