"""Golden replay: the recorded runs of a bundle, run again here from the bundle alone.

A bundle proves with it that it computes on this machine what it computed where it was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from sdkpack.compare import compare
from sdkpack.documents.base import json_object
from sdkpack.documents.manifest import Golden, PipelineGolden
from sdkpack.errors import DocumentError, NoFittingVariantError, PayloadError, SdkpackError
from sdkpack.session.npz import read_npz
from sdkpack.session.values import input_from_file, json_value
from sdkpack.types import TensorSpec, ValueType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdkpack.session.session import Session

__all__ = [
    "GoldenOutput",
    "GoldenResult",
    "compare_json",
    "compare_outputs",
    "recorded_inputs",
    "replay",
    "zero_inputs",
]

_INFINITE: Final = math.inf


class FileReader(Protocol):
    def read(self, path: str, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenOutput:
    """One output of a replayed run against the recorded one."""

    name: str
    normalized_error: float
    """max |a - b| / max |reference|; infinite where structure or text differs."""
    tolerance: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenResult:
    """A replayed run."""

    kind: Literal["model", "pipeline"]
    name: str
    number: int
    """Which of the recorded runs, from 0."""
    target: str = ""
    """The variant that ran, for a model."""
    outputs: tuple[GoldenOutput, ...] = ()
    error: str = ""
    """Why it could not run at all."""

    @property
    def passed(self) -> bool:
        """Whether it ran, gave something, and all of it agrees."""
        return not self.error and bool(self.outputs) and all(output.passed for output in self.outputs)


def replay(session: Session, *, progress: Callable[[str], None] | None = None) -> tuple[GoldenResult, ...]:
    """Runs everything recorded in the bundle again and compares.

    A run that fails is a result too; only a damaged bundle ends the replay.

    Args:
        session: an open session; it chooses the variants.
        progress: told the name of each run before it begins.

    Raises:
        BundleError: a recorded file is missing or malformed.
    """
    return tuple(_results(session, progress or (lambda _: None)))


def _results(session: Session, progress: Callable[[str], None]) -> Iterator[GoldenResult]:
    for name, entry in session.manifest.models.items():
        if entry.golden is not None and not _absorbs(session, name):
            progress(f"model {name}")
            yield _replay_model(session, name, entry.golden)
    for name, goldens in session.manifest.goldens.items():
        for number, golden in enumerate(goldens):
            progress(f"pipeline {name} {number}")
            yield _replay_pipeline(session, name, number, golden)


def _absorbs(session: Session, name: str) -> bool:
    """Whether what runs here takes other tensors than the model, having absorbed steps: its pipeline is replayed."""
    try:
        return bool(session.choice(name).variant.absorbed)
    except NoFittingVariantError:
        return False  # the replay will say so


def _replay_model(session: Session, name: str, golden: Golden) -> GoldenResult:
    inputs = recorded_inputs(session.bundle, golden)
    expected = read_npz(session.bundle.read(golden.outputs), where=golden.outputs)
    target = ""
    try:
        target = session.choice(name).variant.target
        got = session.model(name)(inputs)
    except SdkpackError as error:
        return GoldenResult(kind="model", name=name, number=0, target=target, error=str(error))
    outputs = compare_outputs(got, expected, tolerance=golden.tolerance)
    return GoldenResult(kind="model", name=name, number=0, target=target, outputs=outputs)


def _replay_pipeline(session: Session, name: str, number: int, golden: PipelineGolden) -> GoldenResult:
    pipeline = session.manifest.pipelines.get(name)
    if pipeline is None:
        raise PayloadError(f"a run is recorded for pipeline {name!r}, which the bundle does not have")
    inputs = {
        key: input_from_file(ValueType.parse(pipeline.inputs.get(key, "bytes")), session.bundle.read(path), where=path)
        for key, path in golden.inputs.items()
    }
    try:
        expected = json_object(session.bundle.read(golden.outputs), where=golden.outputs)
    except DocumentError as error:
        raise PayloadError(f"{golden.outputs}: {error.message}") from error
    if not isinstance(expected, dict):
        raise PayloadError(f"{golden.outputs}: recorded outputs are an object of output names")
    try:
        got = json_value(session.run(name, inputs))
    except SdkpackError as error:
        return GoldenResult(kind="pipeline", name=name, number=number, error=str(error))
    outputs = tuple(
        compare_json(key, got.get(key), expected.get(key), tolerance=golden.tolerance)
        for key in sorted({*got, *expected})
    )
    return GoldenResult(kind="pipeline", name=name, number=number, outputs=outputs)


def recorded_inputs(bundle: FileReader, golden: Golden) -> dict[str, NDArray[Any]]:
    """The recorded inputs of a model."""
    return read_npz(bundle.read(golden.inputs), where=golden.inputs)


def zero_inputs(specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Inputs of zeros, every open size 1: enough to make a runtime allocate and tune."""
    import numpy as np

    def dtype(name: str) -> Any:
        return object if name == "string" else np.dtype(name)

    shapes = {spec.name: [size if isinstance(size, int) else 1 for size in spec.shape] for spec in specs}
    return {
        spec.name: np.full(shapes[spec.name], "", dtype=object)
        if spec.dtype == "string"
        else np.zeros(shapes[spec.name], dtype(spec.dtype))
        for spec in specs
    }


def compare_outputs(
    got: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], *, tolerance: float
) -> tuple[GoldenOutput, ...]:
    """Compares arrays by name; an output that only one side has fails."""
    results = []
    for name in sorted({*got, *expected}):
        if name not in got or name not in expected:
            reason = "not recorded" if name in got else "missing"
            results.append(GoldenOutput(name=name, normalized_error=_INFINITE, tolerance=tolerance, passed=False,
                                        reason=reason))  # fmt: skip
            continue
        difference = compare(_text_as_objects(got[name]), _text_as_objects(expected[name]))
        results.append(
            GoldenOutput(
                name=name,
                normalized_error=difference.normalized_error,
                tolerance=tolerance,
                passed=difference.within(tolerance),
                reason=difference.reason,
            )
        )
    return tuple(results)


def compare_json(name: str, got: Any, expected: Any, *, tolerance: float) -> GoldenOutput:
    """Compares two JSON values: structure and text must be equal, numbers may differ by the tolerance.

    The error of all numbers of the output is relative to the greatest of them, as for a tensor.
    """
    pairs: list[tuple[float, float]] = []
    reason = _walk(got, expected, name, pairs)
    if reason:
        return GoldenOutput(name=name, normalized_error=_INFINITE, tolerance=tolerance, passed=False, reason=reason)
    worst = max((abs(a - b) for a, b in pairs), default=0.0)
    scale = max((abs(b) for _, b in pairs), default=0.0)
    error = 0.0 if worst == 0 else worst / scale if scale else _INFINITE
    return GoldenOutput(name=name, normalized_error=error, tolerance=tolerance, passed=error <= tolerance)


def _walk(got: Any, expected: Any, path: str, pairs: list[tuple[float, float]]) -> str:
    """Collects the numbers of both sides; returns where the structures part."""
    if _is_number(got) and _is_number(expected):
        pairs.append((got, expected))
        return ""
    if isinstance(expected, dict) and isinstance(got, dict):
        if got.keys() != expected.keys():
            return f"{path} has keys {sorted(got)}, expected {sorted(expected)}"
        reasons = (_walk(got[key], expected[key], f"{path}.{key}", pairs) for key in expected)
        return next((reason for reason in reasons if reason), "")
    if isinstance(expected, list) and isinstance(got, list):
        if len(got) != len(expected):
            return f"{path} has {len(got)} items, expected {len(expected)}"
        reasons = (_walk(a, b, f"{path}[{at}]", pairs) for at, (a, b) in enumerate(zip(got, expected, strict=True)))
        return next((reason for reason in reasons if reason), "")
    if type(got) is type(expected) and got == expected:
        return ""
    return f"{path} differs"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text_as_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Text arrays of one element type: npz keeps `<U7` where a runtime gives objects."""
    return array.astype(object) if array.dtype.kind in "OUT" else array
