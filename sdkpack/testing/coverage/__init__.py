"""Operator coverage: ONNX's own backend suite, run against any runtime through the same road that a bundle takes."""

from __future__ import annotations

from sdkpack.testing.coverage.expected import Expectations, Verdict
from sdkpack.testing.coverage.outcome import OUTCOMES, Outcome
from sdkpack.testing.coverage.report import CoverageReport

__all__ = ["OUTCOMES", "CoverageReport", "Expectations", "Outcome", "Verdict"]
