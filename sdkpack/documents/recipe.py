"""Recipe: what the author writes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sdkpack.documents import patterns
from sdkpack.documents.base import Document, Json, Name, NamespacedName, Part
from sdkpack.documents.findings import near, several
from sdkpack.documents.manifest import BundleName, Version, name_clashes
from sdkpack.documents.pipeline import BatchPolicy, ParamSpec, TypeText, reserved_inputs
from sdkpack.errors import Problem
from sdkpack.types import DTYPES

__all__ = [
    "BundleSection",
    "CompressSection",
    "ConvertSection",
    "CutSection",
    "DefaultsSection",
    "EncryptSection",
    "InputSection",
    "ModelSection",
    "NoticeSection",
    "OptimizeSection",
    "PipelineSection",
    "Recipe",
    "SignSection",
    "StepSection",
    "TargetSection",
]


class BundleSection(Part):
    """What the bundle is called, and what it says of itself."""

    name: BundleName
    version: Version
    sequence: Annotated[int, Field(ge=0, le=2**53)] = 0
    license: str | None = None
    """An SPDX expression."""
    summary: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class ConvertSection(Part):
    """How a model of another format becomes ONNX."""

    converter: NamespacedName | None = None
    """Absent: the one that knows the file best."""
    files: dict[str, str] = Field(default_factory=dict)
    """Further files, or folders, of the model, by the names that the converter gives them:
    `{ prototxt = "deploy.prototxt" }`."""
    params: dict[str, Json] = Field(default_factory=dict, alias="with")
    """The converter plugin's own settings."""
    opset: Annotated[int, Field(ge=7)] | None = None
    """The newest version of ONNX's operators to write; absent: what the model's targets take."""
    allow_code: bool = False
    """Lets code that the source brings (a Python module, a pickle, a Lambda layer) run, in the converter's own process
    and nowhere else."""
    compare: bool = True
    """Whether the source is run with its own framework and the result held against it, where the converter can."""
    max_error: Annotated[float, Field(ge=0)] | None = None
    """The greatest normalised error of any output that is accepted: max |a - b| / max |source|. Absent: the tolerance
    of float32."""


class CutSection(Part):
    """The part of a model's graph to keep, by names of its tensors."""

    inputs: tuple[str, ...] = ()
    """Where it begins; absent: the model's own inputs, as far as the outputs need them."""
    outputs: tuple[str, ...] = ()
    """Where it ends; absent: the model's own outputs."""

    @model_validator(mode="after")
    def _says_something(self) -> CutSection:
        if not self.inputs and not self.outputs:
            raise ValueError("a cut names inputs, outputs or both")
        return self


class CompressSection(Part):
    """How a model is made smaller at the cost of accuracy, and how much that may be."""

    scheme: NamespacedName
    """A compressor: `float16`; `none` where a default is not wanted."""
    precision: str | None = None
    """One of the compressor's; its first where absent."""
    max_error: Annotated[float, Field(ge=0)] | None = None
    """The greatest normalised error of any output that is accepted: max |a - b| / max |before|. Absent: the tolerance
    of the precision."""
    samples: tuple[str, ...] = ()
    """npz files with the model's inputs by name, to measure on; numbers are made where absent."""
    params: dict[str, Json] = Field(default_factory=dict, alias="with")
    """The compressor plugin's own settings."""


class StepSection(Part):
    """One step; exactly one of `op` and `model`."""

    op: str | None = Field(default=None, pattern=patterns.OPERATOR)
    model: Name | None = None
    inputs: str | tuple[str, ...] | dict[str, str] | None = Field(default=None, alias="in")
    """A value for the first port, values in the order of the ports, or port -> value. Absent: what the step before
    gave, in order."""
    name: Name | tuple[Name, ...] | None = Field(default=None, alias="as")
    """Names for the outputs, in the order of the ports."""
    params: dict[str, Json] = Field(default_factory=dict, alias="with")
    each: str | tuple[str, ...] | None = None
    """Map over lists: names of ports, or of the values that feed them."""
    batch: BatchPolicy | None = None
    when: str | None = None
    """A boolean value or `$PARAM`: where it is false, `otherwise` passes instead."""
    otherwise: str | None = None
    """A value; where absent, the first input."""

    @model_validator(mode="after")
    def _one_kind(self) -> StepSection:
        if (self.op is None) == (self.model is None):
            raise ValueError("a step has either `op` or `model`")
        if self.otherwise is not None and self.when is None:
            raise ValueError("`otherwise` needs `when`")
        return self


class InputSection(Part):
    """One input of a model, as far as its file does not say it, and what it is fed for comparisons."""

    shape: tuple[Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=patterns.SYMBOL)], ...] | None = None
    """Sizes; a name stays open under that name."""
    dtype: str | None = None
    """As NumPy names it; float32 where neither this nor the source says."""
    layout: str | None = None
    """`NCHW`, `NHWC`."""
    range: tuple[float, float] | None = None
    """Least and greatest number of made inputs; for integers, both are used."""
    steps: tuple[StepSection, ...] = ()
    """How a sample file that is no npz becomes this input: steps of a pipeline, without models."""
    file: TypeText = "image/encoded"
    """What such a file is, as a pipeline's input has it."""

    @model_validator(mode="after")
    def _makes_sense(self) -> InputSection:
        problems = []
        if self.dtype is not None and self.dtype not in DTYPES:
            hint = near(self.dtype, DTYPES)
            problems.append(Problem(path="dtype", message="unknown element type", got=repr(self.dtype), hint=hint))
        if self.range is not None and not self.range[0] < self.range[1]:
            problems.append(Problem(path="range", message="empty", got=str(list(self.range)),
                                    expected="the least number first"))  # fmt: skip
        if problems:
            raise several(problems)
        return self


class OptimizeSection(Part):
    """How a model is made smaller and faster without changing what it means."""

    level: Literal["none", "safe", "standard", "max"] = "standard"
    """Which passes run by themselves: `safe` are those that only drop what nothing needs; `max` also those that change
    the form of what is left."""
    passes: dict[NamespacedName, bool] = Field(default_factory=dict)
    """Passes switched on or off by name, whatever the level."""
    opset: Annotated[int, Field(ge=7)] | None = None
    """The version of ONNX's operators to bring the model to; absent: it stays where the targets take it."""
    domains: tuple[str, ...] = ("", "ai.onnx.ml")
    """Domains of operators that passes may bring in; `""` is ONNX's own."""
    max_error: Annotated[float, Field(ge=0)] | None = None
    """The greatest normalised error of any output that is accepted. Absent: the tolerance of the output's type."""
    strict: bool = False
    """Whether a pass that has to be undone is an error."""
    time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    """For one model; what has not run by then is left out."""
    settings: dict[NamespacedName, dict[str, Json]] = Field(default_factory=dict, alias="with")
    """The passes' own settings, by pass."""


class DefaultsSection(Part):
    """Settings of stages for every model that has none of its own."""

    optimize: OptimizeSection | None = None
    compress: CompressSection | None = None


class ModelSection(Part):
    """One model and where it comes from."""

    source: str
    """A file beside the recipe, or `package://PACKAGE/FILE`: ONNX, or what an installed converter reads; a folder,
    where the format is one."""
    convert: ConvertSection | None = None
    inputs: dict[str, InputSection] = Field(default_factory=dict)
    cut: CutSection | None = None
    optimize: OptimizeSection | None = None
    compress: CompressSection | None = None
    license: str | None = None
    targets: tuple[Name, ...] | None = None
    """Which of the recipe's targets; all where absent."""
    sample: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] = Field(default_factory=dict)
    """Shapes of the inputs for recorded runs: `{ x = [1, 3, 224, 224] }`; symbolic sizes are guessed where absent."""
    samples: tuple[str, ...] = ()
    """Real inputs, to compare and calibrate with: npz files with an array for each input, or files that an input's
    `steps` read. They never enter the bundle."""


class TargetSection(Part):
    """A runtime, and how models are prepared for it."""

    runtime: NamespacedName
    precision: str = "float32"
    params: dict[str, Json] = Field(default_factory=dict, alias="with")
    """The runtime plugin's own settings."""
    shapes: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Sizes of symbolic dimensions to fix."""
    budget: Annotated[float, Field(ge=0)] | None = None
    """Normalised error that a compiler which quantises by itself may spend."""
    min_offload: Annotated[float, Field(ge=0, le=1)] | None = None
    """A gate: the share of a model's nodes that the target itself must run."""


class PipelineSection(Part):
    """Inputs, steps from first to last, outputs."""

    summary: str | None = None
    inputs: Annotated[dict[Name, TypeText], Field(min_length=1)]
    outputs: str | tuple[str, ...] | dict[Name, str] | None = None
    """Values, or output name -> value; absent: what the last step gave."""
    params: dict[Name, ParamSpec] = Field(default_factory=dict)
    steps: Annotated[tuple[StepSection, ...], Field(min_length=1)]
    samples: tuple[str | dict[str, str], ...] = ()
    """Files to record a run with: a file for the only input, or input -> file."""

    @model_validator(mode="after")
    def _names(self) -> PipelineSection:
        problems = list(reserved_inputs(self.inputs))
        for number, sample in enumerate(self.samples):
            given = {next(iter(self.inputs))} if isinstance(sample, str) else set(sample)
            if given != self.inputs.keys():
                expected = f"a file for each of {', '.join(self.inputs)}"
                problems.append(Problem(path=f"samples[{number}]", message="not the inputs", expected=expected))
        if problems:
            raise several(problems)
        return self


class EncryptSection(Part):
    """Who can open the bundle; without this section, everybody."""

    recipients: Annotated[tuple[str, ...], Field(min_length=1)]
    """Public keys: files, or key references such as `env:NAME`."""
    line_key: str | None = None
    """De-duplicates over releases; see the format's line mode."""
    chunk_log2: Annotated[int, Field(ge=16, le=24)] = 20


class SignSection(Part):
    """Who signs the bundle."""

    key: str | tuple[str, ...]
    """Signing keys: files, or key references such as `env:NAME`."""

    def keys(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else self.key


class NoticeSection(Part):
    """A licence or notice that a release shows."""

    title: str
    license: str | None = None
    file: str | None = None
    """A file beside the recipe, or `package://PACKAGE/FILE`."""


class Recipe(Document):
    """What goes into a bundle and how, read top to bottom."""

    kind: ClassVar[str] = "recipe"

    recipe: Literal[1]
    bundle: BundleSection
    defaults: DefaultsSection = DefaultsSection()
    models: Annotated[dict[Name, ModelSection], Field(min_length=1)]
    targets: Annotated[dict[Name, TargetSection], Field(min_length=1)]
    pipelines: dict[Name, PipelineSection] = Field(default_factory=dict)
    encrypt: EncryptSection | None = None
    sign: SignSection | None = None
    release: dict[Name, dict[str, Json]] = Field(default_factory=dict)
    """`[release.NAME]`: `exporter` (NAME where absent) and that exporter's own settings."""
    notices: tuple[NoticeSection, ...] = ()

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        problems = list(name_clashes(self.models, self.pipelines))
        for name, model in self.models.items():
            for number, target in enumerate(model.targets or ()):
                path = f"models.{name}.targets[{number}]"
                if target not in self.targets:
                    hint, have = near(target, self.targets), f"one of {', '.join(self.targets)}"
                    problems.append(
                        Problem(path=path, message="no such target", got=repr(target), expected=have, hint=hint)
                    )
                elif target in (model.targets or ())[:number]:
                    problems.append(Problem(path=path, message="named twice", got=repr(target)))
            if model.targets == ():
                problems.append(Problem(path=f"models.{name}.targets", message="empty", hint="leave it out for all"))
        if problems:
            raise several(problems)
        return self
