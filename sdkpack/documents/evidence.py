"""Evidence: what was measured at a step, on what, with what, where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sdkpack.documents.base import Part

__all__ = ["Evidence", "TensorComparison", "Where"]


class TensorComparison(Part):
    """One tensor of the step before (reference) against the step after."""

    name: str
    normalized_error: float
    """max |a - b| / max |reference|, worst over the samples."""
    snr_db: float | None = None
    """10 log10(sum reference^2 / sum (a - b)^2); absent where both are equal."""
    cosine: float | None = None
    tolerance: float
    """The greatest normalised error that passes."""
    passed: bool


class Where(Part):
    """On what it was measured. A simulator's figure is never shown as the device's."""

    kind: Literal["host", "simulator", "device"]
    device: str | None = None
    driver: str | None = None
    firmware: str | None = None
    runtime: str


class Evidence(Part):
    """One finding of one step."""

    step: str
    check: Literal["conversion", "optimization", "parity", "loss", "determinism", "accuracy", "coverage"]
    """`conversion`: the source, run by its own framework, against the ONNX model made from it; `optimization`: the
    model before all passes against the one after them."""
    passed: bool
    reference: str
    """What the reference outputs came from: `onnx.reference 1.23.2`."""
    samples: tuple[str, ...] = ()
    """Digests of the inputs."""
    tensors: tuple[TensorComparison, ...] = ()
    where: Where
    tools: dict[str, str] = Field(default_factory=dict)
    """Distribution -> version."""
    note: str | None = None
