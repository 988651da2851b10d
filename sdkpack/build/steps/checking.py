"""Check: the ONNX model against the source that it was made from, run by the source's own framework.

Both get the same inputs: the author's samples, or made ones. The source runs first of all twice on one input; what
answers differently each time (live dropout, noise) cannot be compared with anything, and is not ready for deployment.
Where an output differs, the first tensor of the graph that does is looked for and named.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.judges import Judge, ReferenceJudge, Run
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.calibration import lay_out
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.converting import Conversion
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, Verdict, judge
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples, given_shapes
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.errors import ModelError, ParityError, PluginBrokenError, RunError, SdkpackError, StepError
from sdkpack.plugin.converter import EvaluateRequest, EvaluateResult
from sdkpack.session.npz import read_npz
from sdkpack.types import TensorSpec

__all__ = ["EVALUATE", "check_step"]

ResultT = TypeVar("ResultT")

EVALUATE: Final = "evaluate"
"""The capability of converters that run the source."""

_MADE: Final = 2
"""Inputs to make: a second one finds what the first one alone would not, a constant say."""
_MAX_SAMPLES: Final = 8
_MAX_INNER: Final = 4096
"""Tensors to look at for the first that differs; beyond it, evenly spread over the graph."""
_EIGHT_BITS: Final = ("int8", "uint8")
_EQUAL_SHARE: Final = 0.99
_STEPS_OFF: Final = 1
"""Of a quantised output. Kernels round halves to even or up, and multiply by a scale in float or in fixed point."""
_AS_SAID: Final = "the author's own (convert.compare = false)"


def check_step(
    conversion: Conversion,
    converted: Step,
    *,
    sample: Mapping[str, Sequence[int]],
    settings: ParitySettings,
    judge: Judge,
    store: Store,
    core: str,
) -> Step:
    """The step that compares; what it gives is the model as it came, with evidence.

    Args:
        conversion: what was converted.
        converted: the step that did.
        sample: shapes of the inputs, where the author states them.
        settings: seed, and how long the reference may take.
        judge: runs the ONNX model where the reference cannot, and where it differs.
        store: where the model is.
        core: fingerprint of sdkpack and of the libraries that the comparison uses.
    """
    plan = plan_step(
        id=f"{conversion.model}/check",
        kind="check",
        plugin=conversion.row.info.name,
        fingerprint=f"{converted.plan.fingerprint}; {judge.fingerprint}; {core}",
        params={
            "sample": {name: list(shape) for name, shape in sample.items()},
            "parity": settings.as_json(),
            "max_error": conversion.section.max_error,
            "compare": conversion.section.compare,
        },
        files=[stamp.digest for _, stamp in conversion.samples],
        after=(converted.plan,),
    )
    work = _Work(conversion, converted.id, sample, settings, judge, store)
    return Step(plan=plan, work=work, after=(converted.id,), cacheable=converted.cacheable)


@dataclass(frozen=True, slots=True)
class _Work:
    conversion: Conversion
    converted: str
    sample: Mapping[str, Sequence[int]]
    settings: ParitySettings
    judge: Judge
    store: Store

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        model = Imported(results[self.converted])
        reason = self._left_out()
        if reason:
            context.warn(reason)
            return _with(model, [self._nothing(reason)])
        run = _Run(self, model, context)
        context.progress(None, "comparing with the source")
        try:
            return _with(model, run.compared())
        except NotComparableError as error:
            reason = f"not compared with its source: {error}"
            context.warn(reason)
            return _with(model, [self._nothing(reason)])

    def _left_out(self) -> str:
        if not self.conversion.section.compare:
            return f"not compared with its source; the choice is {_AS_SAID}"
        if EVALUATE not in self.conversion.row.info.capabilities:
            return f"not compared with its source: converter {self.conversion.row.info.name!r} cannot run it"
        return ""

    def _nothing(self, note: str) -> dict[str, Any]:
        """A finding that says that nothing was found out: `passed` is false, since nothing was proven."""
        return {
            "check": "conversion", "passed": False, "reference": "none", "note": note,
            "where": {"kind": "host", "runtime": "none"}, "tensors": [], "samples": [], "tools": {},
        }  # fmt: skip


def _with(model: Imported, findings: list[dict[str, Any]]) -> StoredResult:
    known = model.result.data
    return StoredResult(files=model.result.files, data={**known, "evidence": [*known.get("evidence", ()), *findings]})


@dataclass(slots=True)
class _Run:
    """One comparison."""

    work: _Work
    model: Imported
    context: BuildContext
    notes: list[str] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)
    witness: str = field(default_factory=reference_name)
    """What ran the ONNX model."""
    _asked: int = 0

    @property
    def name(self) -> str:
        return self.work.conversion.model

    @property
    def tolerance(self) -> float:
        said = self.work.conversion.section.max_error
        return tolerance_for("float32") if said is None else said

    # Both sides ---------------------------------------------------------------------------------------------------
    def onnx(self) -> tuple[list[Arrays], list[Arrays]]:
        """Inputs, and what the ONNX model gives for them: by the reference, else by the runtime that may judge.

        Raises:
            NotComparableError: neither can run this model.
        """
        try:
            return self._inputs(self._reference)
        except NotComparableError as error:
            self._note([f"run by {self.work.judge.name}: {error}"])
            return self._judge_runs(self._inputs)

    def _inputs(self, run: Run) -> tuple[list[Arrays], list[Arrays]]:
        conversion = self.work.conversion
        if conversion.samples:
            folder = self.context.work.parent / "real"
            laid = lay_out(conversion.samples[:_MAX_SAMPLES], self.model.inputs, _empty(folder))
            real: list[Arrays] = [read_npz(path.read_bytes(), where=path.name) for path in laid]
            return real, [run(arrays) for arrays in real]
        specs = given_shapes(self.model.inputs, self.work.sample)
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
                specs, attempt, seed=self.work.settings.seed + number, what=f"model {self.name!r}",
                ranges=self.model.ranges,
            )  # fmt: skip
        except SdkpackError:
            if failure:
                raise failure[0] from None
            raise

    def _judge_runs(self, call: Callable[[Run], ResultT]) -> ResultT:
        """
        Raises:
            NotComparableError: there is no other than the reference, or it does not take the model.
        """
        if isinstance(self.work.judge, ReferenceJudge):
            raise NotComparableError("no runtime that may judge is installed")
        folder = _empty(self.context.work.parent / "judged")
        path = model_input(self.name, self.model, self.work.store, folder).path
        candidate = Candidate.read(path, name=self.name, folder=folder / "parts")
        try:
            with self.work.judge.opened(candidate, self.context.inside("judge")) as run:
                self.witness = self.work.judge.name
                return call(run)
        except (StepError, RunError) as error:
            raise NotComparableError(f"{self.work.judge.name} does not take it: {error.message}") from error

    def _reference(self, arrays: Arrays, inner: Sequence[str] = ()) -> dict[str, Any]:
        return run_reference(
            self.model.result.files, arrays, store=self.work.store, operators=self.model.operators,
            limit_s=self.work.settings.limit_s, progress=self.context.progress, inner=inner,
        )  # fmt: skip

    def source(self, samples: Sequence[Arrays], inner: Sequence[str] = ()) -> list[Arrays]:
        """What the source gives for the same inputs.

        Raises:
            NotComparableError: the converter cannot run this source here.
        """
        conversion = self.work.conversion
        folder = self.context.aside(f"evaluate-{self._asked}")
        self._asked += 1
        paths = []
        for number, arrays in enumerate(samples):
            path = folder / f"{number}.npz"
            path.write_bytes(write_npz(arrays))
            paths.append(path)
        model = model_input(self.name, self.model, self.work.store, folder)
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
        self._note(result.notes)
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

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                self.context.warn(note)

    # What came of it ----------------------------------------------------------------------------------------------
    def compared(self) -> list[dict[str, Any]]:
        """The evidence.

        Raises:
            ModelError: the source answers differently each time.
            NotComparableError: the source cannot be run here.
            ParityError: an output differs.
        """
        samples, found = self.onnx()
        first, again, *others = self.source([samples[0], *samples])
        self._check_steady(first, again)
        expected = [again, *others]
        worst, bad = self._worst(found, expected)
        if bad is not None and self.witness == reference_name():
            # The reference has faults of its own. Where the source and a runtime agree, it is outvoted, and named.
            with suppress(NotComparableError):
                judged = self._judge_runs(lambda run: [run(arrays) for arrays in samples])
                second, still_bad = self._worst(judged, expected)
                if still_bad is None:
                    error = worst[bad[0]].difference.normalized_error
                    self._note([f"{reference_name()} gives another {bad[0]!r} ({error:.3g}) than both of them"])
                    worst, bad = second, None
        if bad is not None:
            self._refuse(worst[bad[0]], samples[bad[1]])
        return [self._evidence(samples, list(worst.values()))]

    def _worst(
        self, found: Sequence[Arrays], expected: Sequence[Arrays]
    ) -> tuple[dict[str, Verdict], tuple[str, int] | None]:
        """For each output the verdict with the greatest error; and the first output and sample that do not pass."""
        worst: dict[str, Verdict] = {}
        bad: tuple[str, int] | None = None
        for number, (onnx, source) in enumerate(zip(found, expected, strict=True)):
            for spec in self.model.outputs:
                verdict = self._judged(spec.name, onnx[spec.name], source[spec.name])
                known = worst.get(spec.name)
                if known is None or _error(verdict) > _error(known):
                    worst[spec.name] = verdict
                if not verdict.passed and bad is None:
                    bad = (spec.name, number)
                    worst[spec.name] = verdict
        return worst, bad

    def _check_steady(self, first: Arrays, again: Arrays) -> None:
        for spec in self.model.outputs:
            verdict = self._judged(spec.name, again[spec.name], first[spec.name])
            if not verdict.passed:
                raise ModelError(
                    f"the source of {self.name!r} is not deterministic: two runs on one input give {spec.name!r} "
                    f"with a normalised error of {verdict.difference.normalized_error:.3g}",
                    hint="save it in inference mode (no live dropout, no batch statistics, no noise); where it is "
                    f"meant to be random: models.{self.name}.convert.compare = false",
                )

    def _judged(self, name: str, output: Any, source: Any) -> Verdict:
        verdict = judge(name, output, source, tolerance=self.tolerance)
        if verdict.passed or str(source.dtype) not in _EIGHT_BITS or output.dtype != source.dtype:
            return verdict
        if output.shape != source.shape:
            return verdict
        equal = float((output == source).mean()) if source.size else 1.0
        if equal < _EQUAL_SHARE or verdict.difference.max_abs > _STEPS_OFF:
            return verdict
        self._note([f"output {name!r} is equal in {equal:.2%} of its elements and one step off in the others"])
        error = verdict.difference.normalized_error
        return Verdict(name=name, difference=verdict.difference, tolerance=error, passed=True, faint=False)

    def _refuse(self, verdict: Verdict, arrays: Arrays) -> None:
        difference = verdict.difference
        reason = difference.reason or f"SNR {difference.snr_db:.1f} dB, cosine {difference.cosine:.4f}"
        place, hint = self._first_difference(arrays)
        raise ParityError(
            f"the ONNX model of {self.name!r} is not what its source computes: output {verdict.name!r} differs, "
            f"expected a normalised error of at most {verdict.tolerance:g}, "
            f"got {difference.normalized_error:.3g} ({reason}){place}",
            hint=hint,
        )

    def _first_difference(self, arrays: Arrays) -> tuple[str, str]:
        """Where the two part ways: the first tensor, in the graph's order, that differs beyond the tolerance."""
        usual = (
            "try another opset or other settings of the converter (models.NAME.convert.with); if the difference is "
            f"known and accepted: models.{self.name}.convert.max_error"
        )
        nodes = self._nodes()
        try:
            source = self.source([arrays], list(nodes))[0]
            shown = [name for name in nodes if name in source]
            found = self._reference(arrays, shown)
        except (SdkpackError, NotComparableError) as error:
            return f"; the first tensor that differs could not be looked for: {error}", usual
        # An inner tensor of another shape shares no more than the name: the source may hold it in another layout.
        alike = [name for name in shown if name in found and found[name].shape == source[name].shape]
        inner = [name for name in alike if name not in {spec.name for spec in self.model.outputs}]
        if not inner:
            return "; the source shows no inner tensors, so where it begins is not known", usual
        equal = ""
        for name in alike:
            verdict = self._judged(name, found[name], source[name])
            if not verdict.passed:
                after = f", the last one that agrees is {equal!r}" if equal else ""
                far = f"{verdict.difference.normalized_error:.3g}"
                return f"; the first tensor that differs is {name!r} of {nodes[name]} ({far}){after}", usual
            equal = name
        return f"; all {len(inner)} inner tensors that the source shows agree", usual

    def _nodes(self) -> dict[str, str]:
        """Names of the graph's tensors in the order of its nodes, each with the node that makes it."""
        from onnx import ModelProto

        proto = ModelProto()
        proto.ParseFromString(self.work.store.read(self.model.result.files["graph"]))
        rows = [
            (name, f"{node.op_type} node {node.name!r}" if node.name else f"a {node.op_type} node")
            for node in proto.graph.node
            for name in node.output
            if name
        ]
        every = max(1, math.ceil(len(rows) / _MAX_INNER))
        return dict(rows[::every])

    def _evidence(self, samples: Sequence[Arrays], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        made = "samples" if self.work.conversion.samples else "made inputs"
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in samples[0].items())
        note = f"{len(samples)} runs on {made} of {shapes}; the source is deterministic"
        faint = [verdict.name for verdict in verdicts if verdict.faint]
        if faint:
            note += f"; all but zero for them, so that agreeing says little: {', '.join(faint)}"
            self.context.warn(f"its outputs {', '.join(faint)} are all but zero for made inputs: give samples")
        return {
            "check": "conversion",
            "passed": all(verdict.passed for verdict in verdicts),
            "reference": f"the source, by {self.work.conversion.row.info.name}",
            "samples": [digest_bytes(write_npz(arrays)) for arrays in samples],
            "tensors": [verdict.as_json() for verdict in verdicts],
            "where": {"kind": "host", "runtime": self.witness},
            "tools": self.tools,
            "note": "; ".join([note, *self.notes]),
        }


def _error(verdict: Verdict) -> float:
    return verdict.difference.normalized_error


def _empty(folder: Path) -> Path:
    """A folder with nothing in it, made anew where it is there already."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
