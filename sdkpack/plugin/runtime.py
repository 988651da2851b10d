"""Runtimes: a compiler half for the build machine and a runner half for the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext
from sdkpack.types import TensorSpec

__all__ = [
    "Blob",
    "Cache",
    "CompileRequest",
    "CompileResult",
    "CompiledModel",
    "CompiledPart",
    "Compiler",
    "Coverage",
    "DeviceInfo",
    "Fit",
    "ModelFile",
    "ModelInput",
    "OpenRequest",
    "PartFile",
    "PipelineStep",
    "Probe",
    "Runner",
    "RunnerSession",
]


# The build machine -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether a toolchain is there, and which one."""

    ok: bool
    fingerprint: str = ""
    """Changes whenever the toolchain could give another result: names, versions, digests of its parts."""
    missing: str = ""
    mend: str = ""
    """The command or step that brings what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStep:
    """An operator of a pipeline beside a model: what a compiler may absorb."""

    id: str
    op: str
    """Operator and version: `image.to_tensor/1`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON, defaults written out. A step that a customer can set, or that reads a file, is not offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model as optimizers get it."""

    name: str
    path: Path
    """A complete ONNX file that any ONNX library loads; external data, if any, stands beside it."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput(ModelFile):
    """A model as compilers and compressors get it."""

    graph: Path
    """The same model without its large initializers: `application/vnd.onnx.graph`."""
    weights: Path
    """What `graph` lacks: tensors of at least 1 MiB at multiples of 65536, others at multiples of 64."""
    tensors: Path
    """JSON: `{"tensors": [[name, dtype, [dims], offset, length_bytes], ...]}`, where in `weights` each is."""
    operators_before: tuple[PipelineStep, ...] = ()
    """The chain of operators that does nothing but feed its only input, in order; the last ones may be absorbed."""
    operators_after: tuple[PipelineStep, ...] = ()
    """The chain that does nothing but take its only output, in order; the first ones may be absorbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileRequest:
    """One or more models to prepare for one target.

    One, unless the descriptor has the capability `compile.joint`: then all models of the target at once, and parts of
    several models may name one file, with an `entry` each.
    """

    models: tuple[ModelInput, ...]
    target: str
    params: Any = None
    """An instance of the descriptor's params dataclass."""
    precision: str = "float32"
    samples: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Per model, npz files with real inputs, named by digest; they never enter a bundle."""
    budget: float | None = None
    """The normalised error that a compiler which quantises by itself may spend."""
    shapes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of symbolic dimensions that the target wants fixed."""
    prior: Path | None = None
    """The folder that an earlier compile of the same models returned as `prior`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A file of a part; `path` is in the work folder, or one of the request's own."""

    role: str
    path: Path
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPart:
    """What one runtime executes; the parts of a model run in order."""

    runtime: str
    files: tuple[PartFile, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    entry: str = ""
    """Which model inside the file, where it holds several."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """JSON, fixed now, given back to the runner: thread policy, optimisation level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a graph the target itself runs."""

    nodes_total: int
    nodes_on_device: int
    unsupported: tuple[str, ...] = ()
    transfers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledModel:
    """One variant of a model."""

    name: str
    parts: tuple[CompiledPart, ...]
    precision: str = "float32"
    needs: Mapping[str, Any] = field(default_factory=dict)
    """JSON for the runner's `check`: `{"version": ">=1.23"}`, devices, CPU features."""
    token: str = ""
    """Opaque: compiler and runner agree by it."""
    absorbed: tuple[str, ...] = ()
    """Ids of pipeline steps that the variant computes itself: the last of `operators_before`, the first of
    `operators_after`. Inputs and outputs keep the model's names; their types are then those of the absorbed steps."""
    shapes: Mapping[str, int] = field(default_factory=dict)
    """Sizes that symbols of the model were fixed to; the parts' specs have these sizes."""
    coverage: Coverage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileResult:
    models: tuple[CompiledModel, ...]
    prior: Path | None = None


@runtime_checkable
class Compiler(Protocol):
    """The half of a runtime that works on the build machine. Called with one thread at a time."""

    def probe(self) -> Probe:
        """Says whether the toolchain is there, without loading it for long or changing anything."""
        ...

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        """Prepares the models.

        Raises:
            sdkpack.errors.ModelError: the target does not support what a model uses; all such uses are named at once.
            sdkpack.errors.StepError: the toolchain failed.
        """
        ...


# The target --------------------------------------------------------------------------------------------------------
class Blob(Protocol):
    """One file of a bundle, checked, as a runner gets it. Plaintext never touches a disk."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def media_type(self) -> str: ...

    def memory(self) -> memoryview:
        """The content in memory made for it: writable, aligned to 4096 bytes, alive until the session is closed.

        The same view at each call.
        """
        ...

    def release(self) -> None:
        """Gives the memory back early: the caller kept nothing of it. `memory()` loads it again."""
        ...

    def file_range(self) -> tuple[Path, int, int] | None:
        """File, offset and length in bytes where the content lies in plain form, else None (an encrypted bundle)."""
        ...

    def path(self) -> Path:
        """A path for libraries that take nothing else: a sealed memory file, kept until the session is closed."""
        ...


class Cache(Protocol):
    """Where a runner may keep what it derives, such as an engine tuned for this machine."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, content: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """What a runner computes on."""

    name: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """For people and for evidence; `driver` and `firmware` are named by these keys."""
    kind: Literal["host", "simulator", "device"] = "host"
    """A simulator's figures are never shown as the device's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well a variant's needs are met here."""

    verdict: Literal["best", "works", "no"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """One part to make ready."""

    files: Mapping[str, Blob]
    """By role, as the compiler named them."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    entry: str = ""
    device: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """As the compiler fixed them."""
    threads: int | None = None
    """Threads that this part may use; None: the runtime's own choice."""
    memory_limit_bytes: int | None = None
    encrypted: bool = False
    """The plaintext is secret: nothing derived from it may be written to a disk."""
    cache: Cache | None = None


@runtime_checkable
class RunnerSession(Protocol):
    """A loaded part."""

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Computes the outputs, NumPy arrays by name, from the inputs.

        The core has checked names, element types and shapes against the specs. Called by one thread at a time, unless
        the descriptor says `run.concurrent`.
        """
        ...

    def close(self) -> None:
        """Frees everything; may be called twice."""
        ...


@runtime_checkable
class Runner(Protocol):
    """The half of a runtime that works on the target."""

    def devices(self) -> Sequence[DeviceInfo]: ...

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        """Says whether a variant would run here, without loading it."""
        ...

    def open(self, request: OpenRequest) -> RunnerSession:
        """Makes a part ready.

        Raises:
            sdkpack.errors.RunError: the library refused it; a fall-back to another device is an error too.
        """
        ...
