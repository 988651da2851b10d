"""What a model computes, by the core's own import and ONNX's reference: the judge of the conformance kit."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sdkpack.build.context import step_context
from sdkpack.build.npz import write_npz
from sdkpack.build.progress import NullReporter
from sdkpack.build.steps.importing import Imported, import_file
from sdkpack.build.steps.parity import judge
from sdkpack.build.steps.reference import NotComparableError, run_reference
from sdkpack.build.store import Store
from sdkpack.model.sample import make_samples
from sdkpack.session.npz import read_npz
from sdkpack.types import TensorSpec

__all__ = ["Laboratory", "assert_same_signature", "differences", "read_sample", "worst_error", "write_samples"]

Arrays = Mapping[str, Any]

_LIMIT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Reads and runs models in a folder of its own."""

    folder: Path

    def read(self, path: Path) -> Imported:
        """The model at `path`, as `pack` imports it.

        Raises:
            ModelError: it is no valid model.
        """
        with (
            self._store() as store,
            step_context("read", plugin="sdkpack", store=store, reporter=NullReporter(), cancel=threading.Event(),
                         environment={}) as context,
        ):  # fmt: skip
            return Imported(import_file(path, store, context, name=path.name))

    def run(self, model: Imported, inputs: Arrays) -> dict[str, Any]:
        """Its outputs by name; the test is skipped where the reference cannot compute it."""
        with self._store() as store:
            try:
                return run_reference(
                    model.result.files, dict(inputs), store=store, operators=model.operators, limit_s=_LIMIT_S,
                    progress=lambda *_: None,
                )  # fmt: skip
            except NotComparableError as error:
                pytest.skip(f"the reference cannot say what is right: {error}")

    def _store(self) -> Store:
        return Store(self.folder / "reference")


def write_samples(
    specs: Sequence[TensorSpec], folder: Path, count: int, dims: Mapping[str, int] | None = None
) -> tuple[Path, ...]:
    """npz files with made inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"sample-{number}.npz" for number in range(count))
    for number, path in enumerate(paths):
        path.write_bytes(write_npz(make_samples(specs, seed=number, dims=dims or {})))
    return paths


def read_sample(path: Path) -> dict[str, Any]:
    """An npz file's arrays by name."""
    return read_npz(path.read_bytes(), where=path.name)


def differences(found: Arrays, expected: Arrays, *, tolerance: float, precision: str = "float32") -> list[str]:
    """In words, each output that is another one than expected; an output that is missing is one."""
    told = [f"output {name!r} is missing" for name in sorted(set(expected) - set(found))]
    for name in sorted(set(expected) & set(found)):
        verdict = judge(name, found[name], expected[name], tolerance=tolerance, precision=precision)
        if not verdict.passed:
            difference = verdict.difference
            reason = f" ({difference.reason})" if difference.reason else ""
            told.append(
                f"output {name!r} has a normalised error of {difference.normalized_error:.3g}{reason}, "
                f"allowed is {tolerance:g}"
            )
    return told


def worst_error(found: Arrays, expected: Arrays) -> float:
    """The greatest normalised error of any output."""
    return max(judge(name, found[name], expected[name], tolerance=0.0).difference.normalized_error for name in expected)


def assert_same_signature(before: Imported, after: Imported, *, symbols: bool = False) -> None:
    """Names, types, order and shapes of inputs and outputs are the same; with `symbols`, the names of open dimensions
    too."""
    for what, old, new in (("inputs", before.inputs, after.inputs), ("outputs", before.outputs, after.outputs)):
        assert [_plain(spec, symbols) for spec in new] == [_plain(spec, symbols) for spec in old], (
            f"the {what} are {', '.join(map(str, new)) or 'none'}, expected {', '.join(map(str, old))}"
        )


def _plain(spec: TensorSpec, symbols: bool) -> tuple[str, str, tuple[int | str | None, ...]]:
    return spec.name, spec.dtype, tuple(dim if symbols or isinstance(dim, int) else None for dim in spec.shape)
