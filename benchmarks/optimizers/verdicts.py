"""What is to be said of an optimised model: does it load, is its interface as it was, does it compute the same."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime

from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.trials import Trial, make_trials
from sdkpack.compare import compare, tolerance_for
from sdkpack.errors import SdkpackError, StepError

RANGES: Final[Mapping[str, tuple[float, float]]] = {"attention_mask": (0, 1), "token_type_ids": (0, 1)}
"""Of inputs whose numbers mean something."""
_NUDGE: Final = 2.0**-22
_FACTOR: Final = 10.0
_SAMPLE_RATES: Final = (0, 8000, 16000)


def open_session(path: Path, *, level: str = "ORT_ENABLE_ALL") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class Question:
    """A trial, and by how much each output moves where the inputs move by the least."""

    trial: Trial
    floors: Mapping[str, float]


def questions_of(path: Path) -> tuple[Question, ...]:
    """Inputs of several numbers and sizes, and what the untouched model gives for them, unoptimised by the runtime.

    A saturated output moves by far more than its inputs do, in any order of summing: what the untouched model itself
    does to inputs that are one part in 2^22 larger, ten times over, is no fault of an optimiser.
    """
    with tempfile.TemporaryDirectory() as folder:
        specs = Candidate.read(path, name=path.stem, folder=Path(folder) / "parts").facts.inputs
    session = open_session(path, level="ORT_DISABLE_ALL")

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, inputs), strict=True))
        except Exception as error:
            raise StepError(str(error)) from error

    given = {name: limits for name, limits in RANGES.items() if name in {spec.name for spec in specs}}
    rows = make_trials(specs, run, seed=0, ranges=given or None, numbers=_SAMPLE_RATES, what=path.name).rows
    return tuple(Question(trial, _floors(trial, run)) for trial in rows)


def _floors(trial: Trial, run: Any) -> dict[str, float]:
    moved = {name: array * (1 + _NUDGE) if array.dtype == np.float32 else array for name, array in trial.inputs.items()}
    found = run({name: array.astype(trial.inputs[name].dtype) for name, array in moved.items()})
    floats = {name: array for name, array in trial.outputs.items() if array.dtype.kind == "f"}
    return {name: _FACTOR * compare(found[name], array).normalized_error for name, array in floats.items()}


def verdict(original: Path, result: Path, questions: tuple[Question, ...]) -> str:
    """`ok`, or the first thing that is wrong: interface, refused, wrong."""
    changed = _interface(original, result)
    if changed:
        return changed
    try:
        session = open_session(result, level="ORT_DISABLE_ALL")
    except Exception as error:
        return f"refused: {str(error)[:80]}"
    names = [output.name for output in session.get_outputs()]
    for question in questions:
        trial = question.trial
        try:
            found = dict(zip(names, session.run(names, trial.inputs), strict=True))
        except Exception:
            return f"fails with {trial.what}"
        for name, expected in trial.outputs.items():
            if not _same(np.asarray(found[name]), np.asarray(expected), question.floors.get(name, 0.0)):
                return f"wrong with {trial.what}"
    return "ok"


def _same(found: Any, expected: Any, floor: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    try:
        tolerance = tolerance_for(str(expected.dtype)) if expected.dtype.kind == "f" else 0.0
        difference = compare(found, expected)
        return difference.within(tolerance) or difference.normalized_error <= floor
    except SdkpackError:
        return bool((found == expected).all())


def _interface(original: Path, result: Path) -> str:
    before, after = (onnx.load(path, load_external_data=False).graph for path in (original, result))
    defaults = {tensor.name for tensor in before.initializer}
    for role in ("input", "output"):
        had = [value for value in getattr(before, role) if role == "output" or value.name not in defaults]
        has = {value.name: value for value in getattr(after, role)}
        left = [name for name in has if name not in defaults or role == "output"]
        if [value.name for value in had] != left:
            return f"{role}s changed"
        for value in had:
            old, new = (_dims(item) for item in (value, has[value.name]))
            if any(not isinstance(one, int) and isinstance(two, int) for one, two in zip(old, new, strict=True)):
                return f"froze an axis of {role} {value.name[:20]}"
            if old != new:
                return f"{role} {value.name[:20]} became {new}"
    return ""


def _dims(value: Any) -> list[Any]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]
