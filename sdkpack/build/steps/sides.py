"""The two sides of a conversion: the source, run by its own framework, and the ONNX model, run by the reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sdkpack.build.context import BuildContext
from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.judges import Judge, ReferenceJudge, Run
from sdkpack.build.npz import write_npz
from sdkpack.build.steps.calibration import lay_out
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.converting import Conversion
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples, given_shapes
from sdkpack.build.store import Store
from sdkpack.errors import ModelError, PluginBrokenError, RunError, SdkpackError, StepError
from sdkpack.plugin.converter import EvaluateRequest, EvaluateResult
from sdkpack.session.npz import read_npz
from sdkpack.types import TensorSpec

__all__ = ["Sides", "unproven"]

ResultT = TypeVar("ResultT")

_MADE: Final = 2
"""Inputs to make: a second one finds what the first one alone would not, a constant say."""
_MAX_SAMPLES: Final = 8


@dataclass(slots=True, kw_only=True)
class Sides:
    """Runs both sides on the same inputs.

    Args:
        conversion: what was converted.
        model: what came of it.
        sample: shapes of the inputs, where the author states them.
        settings: seed, and how long the reference may take.
        judge: runs the ONNX model where the reference cannot.
        store: where the model is.
        context: the step's.
    """

    conversion: Conversion
    model: Imported
    sample: Mapping[str, Sequence[int]]
    settings: ParitySettings
    judge: Judge
    store: Store
    context: BuildContext
    notes: list[str] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)
    witness: str = field(default_factory=reference_name)
    """What ran the ONNX model."""
    _asked: int = 0

    @property
    def name(self) -> str:
        return self.conversion.model

    # Both sides ---------------------------------------------------------------------------------------------------
    def onnx(self) -> tuple[list[Arrays], list[Arrays]]:
        """Inputs, and what the ONNX model gives for them: by the reference, else by the runtime that may judge.

        Raises:
            NotComparableError: neither can run this model.
        """
        try:
            return self._inputs(self.reference)
        except NotComparableError as error:
            self.note([f"run by {self.judge.name}: {error}"])
            return self.judge_runs(self._inputs)

    def _inputs(self, run: Run) -> tuple[list[Arrays], list[Arrays]]:
        conversion = self.conversion
        if conversion.samples:
            folder = self.context.work.parent / "real"
            laid = lay_out(conversion.samples[:_MAX_SAMPLES], self.model.inputs, _empty(folder))
            real: list[Arrays] = [read_npz(path.read_bytes(), where=path.name) for path in laid]
            return real, [run(arrays) for arrays in real]
        specs = given_shapes(self.model.inputs, self.sample)
        found = [self._made(specs, run, number) for number in range(_MADE)]
        return [inputs for inputs, _ in found], [outputs for _, outputs in found]

    def _made(self, specs: Sequence[TensorSpec], run: Run, number: int) -> tuple[Arrays, Arrays]:
        failure: list[NotComparableError] = []

        def attempt(arrays: Arrays) -> Arrays:
            try:
                return run(arrays)
            except NotComparableError as error:
                failure.append(error)
                # A model's fault ends the search for sizes that it runs with; a step's is that of one size.
                raise (ModelError if error.whatever else StepError)(str(error)) from error

        try:
            return fit_samples(
                specs, attempt, seed=self.settings.seed + number, what=f"model {self.name!r}",
                ranges=self.model.ranges,
            )  # fmt: skip
        except SdkpackError:
            if failure:
                raise failure[0] from None
            raise

    def judge_runs(self, call: Callable[[Run], ResultT]) -> ResultT:
        """
        Raises:
            NotComparableError: there is no other than the reference, or it does not take the model.
        """
        if isinstance(self.judge, ReferenceJudge):
            raise NotComparableError("no runtime that may judge is installed")
        folder = _empty(self.context.work.parent / "judged")
        path = model_input(self.name, self.model, self.store, folder).path
        candidate = Candidate.read(path, name=self.name, folder=folder / "parts")
        try:
            with self.judge.opened(candidate, self.context.inside("judge")) as run:
                self.witness = self.judge.name
                return call(run)
        except (StepError, RunError) as error:
            raise NotComparableError(f"{self.judge.name} does not take it: {error.message}") from error

    def reference(self, arrays: Arrays, inner: Sequence[str] = ()) -> dict[str, Any]:
        return run_reference(
            self.model.result.files, arrays, store=self.store, operators=self.model.operators,
            limit_s=self.settings.limit_s, progress=self.context.progress, inner=inner,
        )  # fmt: skip

    def source(self, samples: Sequence[Arrays], inner: Sequence[str] = ()) -> list[Arrays]:
        """What the source gives for the same inputs.

        Raises:
            NotComparableError: the converter cannot run this source here.
        """
        conversion = self.conversion
        folder = self.context.aside(f"evaluate-{self._asked}")
        self._asked += 1
        paths = []
        for number, arrays in enumerate(samples):
            path = folder / f"{number}.npz"
            path.write_bytes(write_npz(arrays))
            paths.append(path)
        model = model_input(self.name, self.model, self.store, folder)
        request = EvaluateRequest(
            conversion=conversion.request(), model=model.path, samples=tuple(paths), tensors=tuple(inner)
        )
        self.context.progress(None, f"running the source with {conversion.row.info.name}")
        result: object = conversion.converter.evaluate(request, self.context)
        where = f"converter {conversion.row.info.name!r}"
        if isinstance(result, EvaluateResult) and not result.outputs:
            raise NotComparableError("; ".join(result.notes) or f"{where} cannot run it here")
        if not isinstance(result, EvaluateResult) or len(result.outputs) != len(samples):
            raise PluginBrokenError(f"{where} did not return an EvaluateResult with {len(samples)} outputs")
        conversion.check_unchanged()
        self.tools |= dict(result.tools)
        self.note(result.notes)
        return [self._answer(path, where) for path in result.outputs]

    def _answer(self, path: Path, where: str) -> Arrays:
        if not path.resolve().is_relative_to(self.context.work.resolve()) or path.is_symlink() or not path.is_file():
            raise PluginBrokenError(f"{where} returned no file of its work folder: {path.name!r}")
        found = read_npz(path.read_bytes(), where=f"{where}: {path.name}")
        lacking = [spec.name for spec in self.model.outputs if spec.name not in found]
        if lacking:
            raise PluginBrokenError(
                f"{where} ran the source and gave no {lacking[0]!r}, got {', '.join(sorted(found)[:8]) or 'nothing'}"
            )
        return found

    def note(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                self.context.warn(note)


def unproven(note: str) -> dict[str, Any]:
    """The finding that nothing was found out; `passed` is false, since nothing was proven."""
    return {
        "check": "conversion", "passed": False, "reference": "none", "note": note,
        "where": {"kind": "host", "runtime": "none"}, "tensors": [], "samples": [], "tools": {},
    }  # fmt: skip


def _empty(folder: Path) -> Path:
    """A folder with nothing in it, made anew where it is there already."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
