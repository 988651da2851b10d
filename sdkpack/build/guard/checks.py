"""Why a pass is undone: everything that must be as it was, and is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.judges import Run
from sdkpack.build.guard.trials import Trial
from sdkpack.build.steps.parity import Verdict, judge
from sdkpack.compare import tolerance_for
from sdkpack.errors import InterruptedRunError, SdkpackError

__all__ = ["Allowed", "RejectedError", "check_outputs", "check_structure", "worst"]

_GROWTH: Final = 1.01
_FAINT_BELOW: Final = 1e-3
_MOST_BY_ROUNDING: Final = 2e-3
_SMALL_BYTES: Final = 1024
"""What a graph may gain whatever its size: a folded constant of a tiny model is more than one percent of it."""


class RejectedError(Exception):
    """A result that is not kept, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a model may use after a pass."""

    opsets: tuple[int, int] | None = None
    """Oldest and newest version of ONNX's own operators."""
    domains: tuple[str, ...] = ("", "ai.onnx.ml")
    operators: frozenset[str] = frozenset()
    """Operators that the target takes; empty: any of the domains."""
    max_error: float | None = None


def check_structure(original: Candidate, result: Candidate, allowed: Allowed) -> None:
    """
    Raises:
        RejectedError: interface, operators or size of the result are not what they may be.
    """
    _check_interface(original, result)
    _check_operators(original, result, allowed)
    before, after = original.facts.parameter_bytes, result.facts.parameter_bytes
    if after > before * _GROWTH + _SMALL_BYTES:
        raise RejectedError(f"its constants grew from {before} to {after} bytes, allowed is one percent")


def _check_interface(original: Candidate, result: Candidate) -> None:
    before, after = list(original.tensors()), list(result.tensors())
    for role in ("input", "output"):
        had = [spec.name for kind, spec in before if kind == role]
        has = [spec.name for kind, spec in after if kind == role]
        if had != has:
            raise RejectedError(f"it has the {role}s {', '.join(has)}, expected {', '.join(had)}")
    for (_, had_spec), (_, has_spec) in zip(before, after, strict=True):
        if had_spec.type != has_spec.type:
            raise RejectedError(f"{has_spec.name!r} became {has_spec.type}, expected {had_spec.type}")


def _check_operators(original: Candidate, result: Candidate, allowed: Allowed) -> None:
    lost = dict(original.facts.metadata).items() - dict(result.facts.metadata).items()
    if any(_is_legal(key) for key, _ in lost):
        raise RejectedError("it lost the metadata that says the licence")
    new = result.operators - original.operators
    foreign = sorted(name for name in new if name.rpartition(".")[0] not in allowed.domains)
    if foreign:
        raise RejectedError(f"it uses {', '.join(foreign)}, of a domain that is not allowed")
    lacking = sorted(new - allowed.operators) if allowed.operators else []
    if lacking:
        raise RejectedError(f"it uses {', '.join(lacking)}, which the target lacks")
    have, had = result.facts.opset, original.facts.opset
    if allowed.opsets is None or have == had:
        return
    least, most = allowed.opsets
    if not least <= have <= most:
        raise RejectedError(f"it imports opset {have}, allowed is {least} to {most}")


def _is_legal(key: str) -> bool:
    return any(word in key.lower() for word in ("license", "licence", "copyright"))


def check_outputs(trials: Sequence[Trial], run: Run, allowed: Allowed) -> list[Verdict]:
    """One verdict an output and trial.

    Raises:
        RejectedError: an output is not what it was, or the model does not run any more.
    """
    verdicts = []
    for trial in trials:
        try:
            found = run(trial.inputs)
        except InterruptedRunError:
            raise
        except SdkpackError as error:
            raise RejectedError(f"it does not run with {trial.what}: {error.message}") from error
        for name, expected in trial.outputs.items():
            precision = str(expected.dtype)
            tolerance = _tolerance(trial, name, expected, allowed)
            verdict = judge(name, found[name], expected, tolerance=tolerance, precision=precision)
            if not verdict.passed:
                difference = verdict.difference
                reason = difference.reason or f"SNR {difference.snr_db:.1f} dB"
                raise RejectedError(
                    f"output {name!r} differs with {trial.what}: normalised error {difference.normalized_error:.3g} "
                    f"({reason}), expected at most {tolerance:g}"
                )
            verdicts.append(verdict)
    return verdicts


def _tolerance(trial: Trial, name: str, expected: Any, allowed: Allowed) -> float:
    """The greatest normalised error of an output: what its type allows, or what rounding the inputs would make of it.

    Where an output is all but zero, as a detector's answer to noise is, the latter is most of its value. Elsewhere it
    counts for little: a change that a customer could see must not pass as rounding.
    """
    import numpy as np

    if expected.dtype.kind != "f":
        return 0.0
    if allowed.max_error is not None:
        return allowed.max_error
    finite = np.abs(expected[np.isfinite(expected)])
    faint = not finite.size or float(finite.max()) <= _FAINT_BELOW
    floor = min(trial.floors.get(name, 0.0), 1.0 if faint else _MOST_BY_ROUNDING)
    return max(tolerance_for(str(expected.dtype)), floor)


def worst(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """For each output the verdict with the greatest error."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        known = found.get(verdict.name)
        if known is None or verdict.difference.normalized_error > known.difference.normalized_error:
            found[verdict.name] = verdict
    return list(found.values())
