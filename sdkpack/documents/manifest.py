"""Manifest: what a bundle says of itself, and what is signed."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sdkpack.documents.base import Document, Json, Name, NamespacedName, Part
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.pipeline import Pipeline
from sdkpack.types import Quantization, TensorSpec

__all__ = [
    "BundleName",
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

BundleName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=64)]
Version = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?$", max_length=64)
]
"""As in PEP 440, without epoch and local part."""
FilePath = Annotated[str, Field(max_length=1024)]
"""The name of a file in the bundle's index."""
DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class QuantizationEntry(Part):
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


class TensorEntry(Part):
    """An input or output tensor."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    quant: QuantizationEntry | None = None

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


class Variant(Part):
    """One model prepared for one target."""

    target: Name
    precision: str = "float32"
    portable: bool = False
    """A plain ONNX model: the one to fall back to."""
    parts: Annotated[tuple[VariantPart, ...], Field(min_length=1)]
    needs: Needs = Needs()
    absorbed: tuple[str, ...] = ()
    shapes: dict[str, int] = Field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


class Golden(Part):
    """Recorded inputs and outputs of a model: npz files, and what a replay may differ by."""

    inputs: FilePath
    outputs: FilePath
    tolerance: float
    """Greatest normalised error, per output."""


class PipelineGolden(Part):
    """A recorded run of a pipeline."""

    inputs: dict[str, FilePath]
    outputs: FilePath
    """JSON; arrays as nested lists."""
    tolerance: float
    """For numbers, relative to the greatest of the output; text must be equal."""


class ModelSource(Part):
    """Where a model came from, without the author's paths."""

    reference: str
    digest: DigestText
    size_bytes: int
    format: str


class ModelEntry(Part):
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    source: ModelSource
    metadata: dict[str, str] = Field(default_factory=dict)
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    golden: Golden | None = None


class Notice(Part):
    """A licence or notice of something inside, for the release to show."""

    title: str
    license: str | None = None
    file: FilePath | None = None


class Manifest(Document):
    """What a bundle says of itself."""

    kind: ClassVar[str] = "manifest"

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


def _assets_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        if set(value) == {"asset"} and isinstance(value["asset"], str):
            return {value["asset"]}
        return {path for item in value.values() for path in _assets_in(item)}
    if isinstance(value, list | tuple):
        return {path for item in value for path in _assets_in(item)}
    return set()
