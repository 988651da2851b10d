"""The report of a coverage run: one JSON document, and totals for people."""

from __future__ import annotations

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdkpack.testing.coverage.expected import Expectations, Verdict
from sdkpack.testing.coverage.outcome import OUTCOMES, Outcome

__all__ = ["CoverageReport", "OperatorLine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLine:
    """One operator over all cases that are about it alone."""

    operator: str
    counts: Mapping[str, int]
    highest_opset: int
    """The highest opset of which a case passes; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageReport:
    """What a runtime computes right, and what it does not."""

    runtime: str
    fingerprint: str
    precision: str
    outcomes: tuple[Outcome, ...]
    expectations: Expectations
    seconds: float
    versions: Mapping[str, str] = field(default_factory=lambda: {"onnx": importlib.metadata.version("onnx")})

    @property
    def verdict(self) -> Verdict:
        return self.expectations.judge(self.outcomes)

    @property
    def totals(self) -> dict[str, int]:
        """Cases by class, every class named."""
        counts = Counter(outcome.result for outcome in self.outcomes)
        return {name: counts[name] for name in OUTCOMES}

    def operators(self) -> tuple[OperatorLine, ...]:
        """Every operator that a case is about, by name."""
        rows: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            if outcome.operator:
                rows[outcome.operator].append(outcome)
        return tuple(_line(name, rows[name]) for name in sorted(rows))

    def as_json(self) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "coverage": 1,
            "runtime": self.runtime,
            "fingerprint": self.fingerprint,
            "precision": self.precision,
            "versions": dict(self.versions),
            "rule": _RULE if self.precision == "float32" else "normalised error within the tolerance of the precision",
            "opsets": list(self.expectations.opsets) if self.expectations.opsets else None,
            "seconds": round(self.seconds, 1),
            "cases": len(self.outcomes),
            "totals": self.totals,
            "as_expected": verdict.as_expected,
            "unlisted": [outcome.as_json() for outcome in verdict.unlisted],
            "unexpected_passes": [outcome.case for outcome in verdict.passing],
            "absent": list(verdict.absent),
            "operators": [
                {"operator": line.operator, "highest_opset": line.highest_opset, **line.counts}
                for line in self.operators()
            ],
            "outcomes": [self._case(outcome) for outcome in self.outcomes],
        }

    def text(self) -> str:
        """Some lines for a terminal."""
        totals = ", ".join(f"{count} {name}" for name, count in self.totals.items() if count)
        lines = [f"{self.runtime}: {len(self.outcomes)} cases: {totals}"]
        verdict = self.verdict
        lines += [f"not expected: {o.case}: {o.result}: {o.reason}" for o in verdict.unlisted[:_MOST_LINES]]
        if len(verdict.unlisted) > _MOST_LINES:
            lines.append(f"not expected: {len(verdict.unlisted) - _MOST_LINES} more")
        lines += [f"expected to fail, and passes: {outcome.case}" for outcome in verdict.passing]
        lines += [f"expected to fail, and there is no such case: {name}" for name in verdict.absent]
        return "\n".join(lines)

    def _case(self, outcome: Outcome) -> dict[str, Any]:
        listed = self.expectations.expected(outcome) if outcome.result != "pass" else None
        return outcome.as_json() | (
            {"expected": listed[1] or "not among the operators that it claims"} if listed else {}
        )


_RULE = "the suite's own: rtol and atol of each case"
_MOST_LINES = 40


def _line(name: str, outcomes: Sequence[Outcome]) -> OperatorLine:
    counts = Counter(outcome.result for outcome in outcomes)
    passed = [outcome.opset for outcome in outcomes if outcome.result == "pass"]
    return OperatorLine(
        operator=name,
        counts={key: counts[key] for key in OUTCOMES if counts[key]},
        highest_opset=max(passed, default=0),
    )
