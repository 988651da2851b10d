"""Plan: a recipe with every choice fixed; two builds of one plan give the same bytes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sdkpack.documents.base import Document, Json, Name, Part
from sdkpack.documents.manifest import DigestText
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.recipe import BundleSection, EncryptSection, SignSection

__all__ = ["Plan", "PlanInput", "PlanStep"]


class PlanInput(Part):
    """A file that the author gives."""

    reference: str
    digest: DigestText
    size_bytes: int


class PlanStep(Part):
    """One step and all that its result depends on."""

    id: str
    """`det/import`, `det/check`, `det/cut`, `det/optimize`, `det/compress`, `det/compile/cpu`, `compile/npu` for models
    that are compiled together, `read/golden`. Where targets take different forms of a model: `det/optimize/2`."""
    kind: Literal[
        "convert", "import", "check", "cut", "export", "optimize", "compress", "compile", "golden", "pipeline-golden"
    ]
    plugin: str
    """What does it: `acme.npu2`, or `sdkpack` itself."""
    fingerprint: str
    """Versions and digests of what does it; another one, another result."""
    params: dict[str, Json] = Field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    """Digests of author's files, and ids of the steps before."""
    key: DigestText
    """Names the result in the store."""
    deterministic: bool = True
    """Whether what does it says that the same input gives the same bytes."""
    result: DigestText | None = None
    """What a step that is not deterministic gave; another result is refused."""


class Plan(Document):
    """What `sdkpack plan` prints and `pack` does."""

    kind: ClassVar[str] = "plan"

    plan: Literal[1]
    sdkpack: str
    bundle: BundleSection
    inputs: dict[str, PlanInput]
    steps: tuple[PlanStep, ...]
    pipelines: dict[Name, Pipeline] = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict)
    encrypt: EncryptSection | None = None
    sign: SignSection | None = None
    release: dict[Name, dict[str, Json]] = Field(default_factory=dict)
