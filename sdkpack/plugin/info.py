"""Descriptors: what a plugin says of itself before any of its heavy code is imported.

A hook returns descriptors; building one must import no toolchain and touch no device, file or network. The class that
does the work is named by `load` and imported at its first use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = [
    "API_VERSION",
    "AssetMarker",
    "CompressorInfo",
    "ConverterInfo",
    "EnvironmentSpec",
    "ExporterInfo",
    "Half",
    "Isolation",
    "KeyProviderInfo",
    "Magic",
    "OperatorInfo",
    "OptimizerInfo",
    "PluginInfo",
    "Port",
    "RuntimeInfo",
]

API_VERSION: Final = (1, 0)
"""Major and minor of the plugin API, apart from the package's version. A plugin module states the pair that it was
written for as `SDKPACK_API = (1, 0)`; another major is refused, a newer minor too."""

Isolation = Literal["in-process", "environment", "external"]
"""Where a half runs: in this process, in an environment of its own that sdkpack builds, or by a tool that the user
installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetMarker:
    """Marks an operator parameter whose value comes from a file packed with the bundle.

    In a recipe such a parameter is a file name relative to the recipe, `package://PACKAGE/FILE`,
    `model-metadata://MODEL/KEY`, or the value itself. The operator only ever sees the content.
    """

    content: Literal["lines", "text", "bytes"]
    """`lines`: UTF-8 text split at line ends, as a tuple of str, the last line end ignored; `text`: str; `bytes`."""
    media_type: str = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What every descriptor says."""

    name: str
    """Namespaced, lower case: `image.resize`, `acme.npu2`; `vendor.chip` for plugins that are not sdkpack's own."""
    summary: str
    """One line for people: what it does, not how."""
    params: type[Any] | None = None
    """A frozen stdlib dataclass of what a recipe may set, or None. `__post_init__` raises ValueError where
    a type alone cannot say what is allowed."""
    capabilities: tuple[str, ...] = ()
    """Words that the core or the conformance kit acts upon, as listed in the interface's documentation."""
    platforms: tuple[str, ...] = ()
    """Where it works, as `linux/x86_64`, `linux/*`; empty: everywhere."""
    requires: tuple[str, ...] = ()
    """What must be importable or installed beside it, as PEP 508 requirements."""
    time_limit_s: float = 600.0
    """Of one call. Outside of this process a tool is ended then. Inside, it is stopped at its next `context.progress`
    or `context.run`, and a call that asks for neither is only told of."""
    deterministic: bool = True
    """Same inputs, params and fingerprint: same bytes. Where False, a step is pinned by its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of an operator."""

    name: str
    type: str
    """As `sdkpack.types.ValueType.parse` reads it: `image`, `tensor(float32, [1, 3, H, W])`, `list(quad)`."""
    optional: bool = False
    """An input that may be left unconnected; the operator then gets None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorInfo(PluginInfo):
    """A pre- or post-processing operator."""

    load: str
    """`package.module:Class`, a `sdkpack.plugin.Operator`; the class is called with the params, or with nothing where
    `params` is None."""
    version: int = 1
    """A change that alters any answer is a new version; bundles name the version that they were checked with."""
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """A Python environment of a toolchain's own, which sdkpack builds at the first use and shares between plugins that
    ask for the same."""

    requirements: tuple[str, ...]
    """PEP 508 requirements, pinned: `("protobuf==4.25.8",)`. sdkpack itself is not needed there."""
    smoke_test: str
    """Python code that proves the environment: it imports what the toolchain imports. A resolver is no proof, so an
    environment whose smoke test fails is never used."""
    python: str = ""
    """Versions of Python that it works with: `>=3.8,<3.11`; empty: the one that sdkpack runs on. The newest one that
    is there is taken."""
    size_bytes: int = 0
    """About what it takes on the disk: told before it is built, and looked for on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """What does the work and where: one half of a runtime, or the only one of another plugin of the build machine."""

    load: str = ""
    """`package.module:Class`, called without arguments. Outside of this process only the module's top-level package,
    `sdkpack.plugin` (from Python 3.10 on), `sdkpack_job` and pluggy can be imported beside what the environment
    holds."""
    isolation: Isolation = "in-process"
    environment: EnvironmentSpec | None = None
    """For `environment`."""
    command: tuple[str, ...] = ()
    """Instead of `load`: a program and its arguments that reads the job folder named by one more argument. With
    `environment` it is looked for there, with `external` on the user's PATH."""
    memory_limit_bytes: int = 0
    """Address space outside of this process; 0: the host's choice."""
    disk_limit_bytes: int = 0
    """What a job may write, all files together; 0: the host's choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Magic:
    """Bytes that files of a format begin with."""

    content: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConverterInfo(PluginInfo):
    """Brings models of other formats to ONNX, or ONNX to another format. One descriptor a format.

    Capability words: `sniff` (looks into a file where magic bytes do not decide), `evaluate` (runs the source with its
    own framework, so that the core can hold the result against it), `code` (takes sources that bring code, where the
    author allows it; only outside of this process), `network` (asks for a network, which the user may grant).
    """

    half: Half
    reads: tuple[str, ...]
    """Media types."""
    writes: tuple[str, ...] = ("application/vnd.onnx",)
    magics: tuple[Magic, ...] = ()
    members: tuple[str, ...] = ()
    """For formats that are a folder or a ZIP archive: patterns (as in `fnmatch`, over the path inside, `/` between
    folders) that must each match a member: `("saved_model.pb",)`, `("*/data.pkl", "*/code/*")`. Of several converters
    that match, the one with more patterns is surer. Only a converter with members is ever given a folder."""
    suffixes: tuple[str, ...] = ()
    """Of file names, lower case: `.caffemodel`. Weaker than magic bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerInfo(PluginInfo):
    """Makes a model smaller or faster without changing what it means. One descriptor a pass, or a stage of a library
    whose passes only work together.

    Capability words: `large` (works on a model without holding its weights in memory; others are left out for models
    beyond a limit), `network`.
    """

    half: Half
    category: str
    """What kind of change: `constant-folding`, `arithmetic`, `dependency`, `function`, `fusion`, `information`."""
    level: Literal["safe", "standard", "max", "named"] = "standard"
    """The lowest level of a recipe at which it runs; `named`: only where a recipe names it."""
    after: tuple[str, ...] = ()
    """Names of passes that run before it, where they run at all. A pass may stand in several rounds; those that nothing
    orders run by their names."""
    repeats: bool = True
    """Whether it is worth running again after others changed the model; False where one time is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressorInfo(PluginInfo):
    """Makes a model smaller or faster by changing what it computes, within a budget. Its name is the recipe's `scheme`.

    Capability words: `samples` (needs real inputs), `network`.
    """

    half: Half
    precisions: tuple[str, ...]
    """What it can make: `float16`, `int8`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo(PluginInfo):
    """An inference library, seen from the build machine (`compiler`) and from the target (`runner`).

    Beside the words of its halves: `compare` (both halves work in this process and compute a float32 model as ONNX
    defines it, no number changed on purpose: the core compares models by it where the reference is too slow).
    """

    compiler: Half | None = None
    runner: Half | None = None
    accepts: tuple[str, ...] = ("application/vnd.onnx",)
    """Media types of the models that its compiler takes."""
    precisions: tuple[str, ...] = ("float32",)
    opsets: tuple[int, int] | None = None
    """The oldest and the newest version of ONNX's own operators that its compiler takes; None: it does not say.
    Converters write no newer one, and a model outside of it is refused before the compiler is asked."""
    operators: tuple[str, ...] = ()
    """The operators that its compiler takes, as `Conv` or `com.acme.Fused`; empty: it does not say. Optimizers bring in
    no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterInfo(PluginInfo):
    """Makes a release, or a foreign layout, of a bundle."""

    load: str
    """`package.module:Class`, a `sdkpack.plugin.Exporter`, called without arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProviderInfo(PluginInfo):
    """Where keys live: files, the environment, a KMS, an HSM."""

    load: str
    """`package.module:Class`, a `sdkpack.plugin.KeyProvider`, called without arguments."""
    schemes: tuple[str, ...] = field(default=())
    """The key references that it serves: `env` serves `env:ACME_KEY`."""
