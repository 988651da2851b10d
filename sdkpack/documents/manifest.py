"""Manifest: what a bundle says of itself, and what is signed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sdkpack.documents import patterns
from sdkpack.documents.base import Document, Json, Name, NamespacedName, Part
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.findings import near, several
from sdkpack.documents.pipeline import Pipeline
from sdkpack.errors import FormatVersionError, Problem, SdkpackError
from sdkpack.types import DTYPES, Quantization, TensorSpec

__all__ = [
    "BundleName",
    "CoverageEntry",
    "Golden",
    "Manifest",
    "ModelEntry",
    "ModelSource",
    "Needs",
    "Notice",
    "PipelineGolden",
    "QuantizationEntry",
    "TensorEntry",
    "Variant",
    "VariantPart",
    "Version",
]

BundleName = Annotated[str, Field(pattern=patterns.BUNDLE_NAME, max_length=64)]
Version = Annotated[str, Field(pattern=patterns.VERSION, max_length=64)]
"""As in PEP 440, without epoch and local part."""
FilePath = Annotated[str, Field(max_length=1024)]
"""The name of a file in the bundle's index."""
DigestText = Annotated[str, Field(pattern=patterns.DIGEST)]


class QuantizationEntry(Part):
    """How integers stand for real numbers: `real = scale * (integer - zero_point)`, per tensor or along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> QuantizationEntry:
        if not self.scale or len(self.scale) != len(self.zero_point):
            raise ValueError(f"{len(self.scale)} scales and {len(self.zero_point)} zero points")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"{len(self.scale)} scales without an axis")
        return self


class TensorEntry(Part):
    """An input or output tensor."""

    name: str
    dtype: str
    """As NumPy names it, or else ONNX in lower case: `float32`, `bfloat16`."""
    shape: tuple[int | str, ...]
    """Sizes, symbols, or "?" for any."""
    layout: str | None = None
    quant: QuantizationEntry | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> TensorEntry:
        if self.dtype not in DTYPES:
            hint = near(self.dtype, DTYPES)
            raise several([Problem(path="dtype", message="unknown element type", got=repr(self.dtype), hint=hint)])
        negative = [size for size in self.shape if isinstance(size, int) and size < 0]
        if negative:
            raise several([Problem(path="shape", message="a size is negative", got=str(negative[0]))])
        return self

    @classmethod
    def of(cls, spec: TensorSpec) -> TensorEntry:
        quant = None
        if spec.quant is not None:
            quant = QuantizationEntry(scale=spec.quant.scale, zero_point=spec.quant.zero_point, axis=spec.quant.axis)
        return cls(name=spec.name, dtype=spec.dtype, shape=spec.shape, layout=spec.layout or None, quant=quant)

    def spec(self) -> TensorSpec:
        quant = None
        if self.quant is not None:
            quant = Quantization(scale=self.quant.scale, zero_point=self.quant.zero_point, axis=self.quant.axis)
        return TensorSpec(name=self.name, dtype=self.dtype, shape=self.shape, layout=self.layout or "", quant=quant)


class VariantPart(Part):
    """What one runtime executes."""

    runtime: NamespacedName
    files: dict[str, FilePath]
    """Role -> file, as the runtime's compiler named them."""
    entry: str | None = None
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    options: dict[str, Json] = Field(default_factory=dict)


class Needs(Part):
    """What a variant needs of the machine, told before it is loaded."""

    platforms: tuple[str, ...] = ()
    """`linux/x86_64`, `linux/*`; empty: any."""
    runtime: dict[str, Json] = Field(default_factory=dict)
    """For the runner's `check`: version range, device, CPU features."""
    token: str | None = None
    """Opaque: compiler and runner agree by it."""


class CoverageEntry(Part):
    """How much of a graph the target itself runs; the rest stands in other parts."""

    nodes_total: Annotated[int, Field(ge=0)]
    nodes_on_device: Annotated[int, Field(ge=0)]
    unsupported: tuple[str, ...] = ()
    """Operators that the target lacks."""
    transfers: Annotated[int, Field(ge=0)] = 0
    """Copies between device and host in one run."""

    @model_validator(mode="after")
    def _part_of_the_whole(self) -> CoverageEntry:
        if self.nodes_on_device > self.nodes_total:
            raise ValueError(f"{self.nodes_on_device} nodes on the device of {self.nodes_total} in all")
        return self


class Variant(Part):
    """One model prepared for one target."""

    target: Name
    precision: str = "float32"
    portable: bool = False
    """A plain ONNX model: the one to fall back to."""
    parts: Annotated[tuple[VariantPart, ...], Field(min_length=1)]
    needs: Needs = Needs()
    absorbed: tuple[str, ...] = ()
    """Steps of the pipeline that this variant computes itself; a run passes over them."""
    shapes: dict[str, int] = Field(default_factory=dict)
    """Sizes that symbols of the model are fixed to."""
    coverage: CoverageEntry | None = None
    evidence: tuple[Evidence, ...] = ()


class Golden(Part):
    """Recorded inputs and outputs of a model: npz files, and what a replay may differ by."""

    inputs: FilePath
    outputs: FilePath
    tolerance: Annotated[float, Field(ge=0)]
    """Greatest normalised error, per output."""


class PipelineGolden(Part):
    """A recorded run of a pipeline."""

    inputs: dict[str, FilePath]
    outputs: FilePath
    """JSON; arrays as nested lists."""
    tolerance: Annotated[float, Field(ge=0)]
    """For numbers, relative to the greatest of the output; text must be equal."""


class ModelSource(Part):
    """Where a model came from, without the author's paths."""

    reference: str
    digest: DigestText
    size_bytes: Annotated[int, Field(ge=0)]
    format: str


class ModelEntry(Part):
    """A model, and what it was prepared for."""

    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    source: ModelSource
    metadata: dict[str, str] = Field(default_factory=dict)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    golden: Golden | None = None

    @model_validator(mode="after")
    def _one_variant_a_target(self) -> ModelEntry:
        count = Counter(variant.target for variant in self.variants)
        twice = [
            Problem(path=f"variants[{number}].target", message="another variant has this target", got=variant.target)
            for number, variant in enumerate(self.variants)
            if count[variant.target] > 1
        ]
        if twice:
            raise several(twice[1:])
        return self


class Notice(Part):
    """A licence or notice of something inside, for the release to show."""

    title: str
    license: str | None = None
    file: FilePath | None = None


class Manifest(Document):
    """What a bundle says of itself."""

    kind: ClassVar[str] = "manifest"
    # A bundle that is too new is a finding of verification, whichever part of it says so.
    too_new: ClassVar[type[SdkpackError]] = FormatVersionError

    manifest: Literal[1]
    name: BundleName
    version: Version
    sequence: Annotated[int, Field(ge=0, le=2**53)]
    """Grows with every release; a trust policy may refuse older ones."""
    license: str | None = None
    summary: str | None = None
    models: dict[Name, ModelEntry]
    pipelines: dict[Name, Pipeline] = Field(default_factory=dict)
    goldens: dict[Name, tuple[PipelineGolden, ...]] = Field(default_factory=dict)
    """Per pipeline."""
    plugins: dict[str, str] = Field(default_factory=dict)
    """Distributions, with versions, that the bundle was built and checked with and that running it needs."""
    notices: tuple[Notice, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _references(self) -> Manifest:
        problems = [*name_clashes(self.models, self.pipelines), *self._pipeline_problems(), *self._golden_problems()]
        problems += self._absorbed_problems()
        if problems:
            raise several(problems)
        return self

    def _pipeline_problems(self) -> Iterable[Problem]:
        for name, pipeline in self.pipelines.items():
            ids = Counter(step.id for step in pipeline.steps)
            for number, step in enumerate(pipeline.steps):
                path = f"pipelines.{name}.steps[{number}]"
                if ids[step.id] > 1:
                    yield Problem(path=f"{path}.id", message="another step has this id", got=repr(step.id))
                if step.model is not None and step.model not in self.models:
                    hint = near(step.model, self.models)
                    yield Problem(path=f"{path}.model", message="no such model", got=repr(step.model), hint=hint)

    def _golden_problems(self) -> Iterable[Problem]:
        for name, goldens in self.goldens.items():
            pipeline = self.pipelines.get(name)
            if pipeline is None:
                hint = near(name, self.pipelines)
                yield Problem(path=f"goldens.{name}", message="no such pipeline", got=repr(name), hint=hint)
                continue
            for number, golden in enumerate(goldens):
                if golden.inputs.keys() != pipeline.inputs.keys():
                    path, have = f"goldens.{name}[{number}].inputs", ", ".join(sorted(golden.inputs))
                    expected = ", ".join(sorted(pipeline.inputs))
                    yield Problem(path=path, message="not the pipeline's inputs", got=have, expected=expected)

    def _absorbed_problems(self) -> Iterable[Problem]:
        for name, model in self.models.items():
            running = [p for p in self.pipelines.values() if any(step.model == name for step in p.steps)]
            known = {step.id: step for pipeline in running for step in pipeline.steps}
            for number, variant in enumerate(model.variants):
                for id_ in variant.absorbed:
                    step = known.get(id_)
                    plain = step is not None and step.op is not None and not step.each and step.when is None
                    if step is None or not plain or len(step.inputs) != 1 or len(step.outputs) != 1:
                        path = f"models.{name}.variants[{number}].absorbed"
                        expected = "an operator with one input and one output, in the pipeline that runs the model"
                        yield Problem(path=path, message="cannot be passed over", got=repr(id_), expected=expected)

    def files(self) -> set[str]:
        """Every file that this manifest names."""
        named: set[str] = {notice.file for notice in self.notices if notice.file}
        for model in self.models.values():
            named |= {path for variant in model.variants for part in variant.parts for path in part.files.values()}
            if model.golden:
                named |= {model.golden.inputs, model.golden.outputs}
        for goldens in self.goldens.values():
            named |= {path for golden in goldens for path in (*golden.inputs.values(), golden.outputs)}
        steps = (step for pipeline in self.pipelines.values() for step in pipeline.steps)
        return named | {path for step in steps for path in _assets_in(step.params)}


def name_clashes(models: Iterable[str], pipelines: Iterable[str]) -> Iterable[Problem]:
    """Names that a model and a pipeline share: `session.run(NAME)` could mean either."""
    for name in sorted(set(models) & set(pipelines)):
        yield Problem(path=f"pipelines.{name}", message="a model has this name too", hint="rename one of them")


def _assets_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        if set(value) == {"asset"} and isinstance(value["asset"], str):
            return {value["asset"]}
        return {path for item in value.values() for path in _assets_in(item)}
    if isinstance(value, list | tuple):
        return {path for item in value for path in _assets_in(item)}
    return set()
