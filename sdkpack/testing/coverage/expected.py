"""Expected failures: a file that says which cases fail and why. What is not in it must pass."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import UsageError
from sdkpack.testing.coverage.outcome import OUTCOMES, Outcome

__all__ = ["Expectations", "Verdict"]

_TO_BE_LISTED: Final = ("unsupported", "wrong value", "error")
_KEYS: Final = {"opsets", "supports", "failures"}
_ROW: Final = {"reason", "result", "cases"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Where the outcome is another one than expected."""

    unlisted: tuple[Outcome, ...]
    """Failures that nobody announced, or of another kind than announced."""
    passing: tuple[Outcome, ...]
    """Announced failures that pass."""
    absent: tuple[str, ...]
    """Names or patterns that no case has."""

    @property
    def as_expected(self) -> bool:
        return not (self.unlisted or self.passing or self.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a runtime is known to lack."""

    opsets: tuple[int, int] | None = None
    """Lowest and highest opset that it claims."""
    supports: frozenset[str] | None = None
    """The operators that it claims; a case with any other one is expected to be unsupported. None: all."""
    failures: tuple[tuple[str, str, str], ...] = field(default=())
    """Case or pattern, result, reason."""

    @staticmethod
    def read(path: Path) -> Expectations:
        """
        ```toml
        opsets = [7, 27]              # may be left out: what the descriptor says
        supports = ["Conv", "Gemm"]   # may be left out: every operator

        [[failures]]
        reason = "no kernel for uint2"
        result = "unsupported"
        cases = ["test_cast_UINT2_*"]
        ```

        Raises:
            UsageError: the file is not like that.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            return _read(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"the expected failures in {path} cannot be read: {error}") from error

    def classed(self, outcome: Outcome) -> Outcome:
        """The outcome, its failure put down to this machine where the file says that it depends on that."""
        listed = self.expected(outcome)
        if outcome.result in _TO_BE_LISTED and listed is not None and listed[0] == "environment":
            return replace(outcome, result="environment")
        return outcome

    def judge(self, outcomes: Iterable[Outcome]) -> Verdict:
        found = list(outcomes)
        names = {outcome.case for outcome in found}
        unlisted, passing = [], []
        for outcome in found:
            listed = self.expected(outcome)
            if outcome.result == "pass" and listed is not None and listed[1]:
                # What depends on the machine may well pass on another one.
                passing += [outcome] if listed[0] != "environment" else []
            elif outcome.result in (*_TO_BE_LISTED, "environment") and (listed is None or listed[0] != outcome.result):
                unlisted.append(outcome)
        absent = [name for name, _, _ in self.failures if not fnmatch.filter(names, name)]
        return Verdict(unlisted=tuple(unlisted), passing=tuple(passing), absent=tuple(absent))

    def expected(self, outcome: Outcome) -> tuple[str, str] | None:
        """Result and reason that are listed for a case; an operator outside of `supports` has no reason."""
        for pattern, result, reason in self.failures:
            if fnmatch.fnmatchcase(outcome.case, pattern):
                return result, reason
        if self.supports is not None and not set(outcome.operators) <= self.supports:
            return "unsupported", ""
        return None


def _read(content: dict[str, Any]) -> Expectations:
    if unknown := set(content) - _KEYS:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    rows: list[tuple[str, str, str]] = []
    for row in content.get("failures", ()):
        if set(row) != _ROW or row["result"] not in OUTCOMES or not row["reason"].strip():
            raise ValueError(f"a failure has a reason, a result and cases, got {sorted(row)}")
        rows += [(name, row["result"], row["reason"]) for name in row["cases"]]
    opsets = content.get("opsets")
    if opsets is not None:
        low, high = opsets
        opsets = int(low), int(high)
    supports = content.get("supports")
    return Expectations(opsets=opsets, supports=None if supports is None else frozenset(supports), failures=tuple(rows))
