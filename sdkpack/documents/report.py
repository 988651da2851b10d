"""Report: what differs from run to run and so stands beside a bundle, not in it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sdkpack.documents.base import Document, Part

__all__ = ["Report", "StepReport"]


class StepReport(Part):
    """How one step went."""

    id: str
    cached: bool
    seconds: float
    note: str | None = None
    isolation: dict[str, str] = Field(default_factory=dict)
    """What was enforced around toolchains outside of the process: measure -> what, or why not."""
    result: str | None = None
    """Digest of what a step that is not deterministic gave."""


class Report(Document):
    """How a bundle was made: `NAME-VERSION.report.json`."""

    kind: ClassVar[str] = "report"

    report: Literal[1]
    bundle: str
    identity: str
    size_bytes: int
    seconds: float
    steps: tuple[StepReport, ...] = ()
    machine: dict[str, str] = Field(default_factory=dict)
