"""Optimise: the smallest graph that the passes find and that provably means the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.checks import Allowed
from sdkpack.build.guard.judges import Judge, Run
from sdkpack.build.guard.passes import Pass
from sdkpack.build.guard.rounds import Outcome, Rounds
from sdkpack.build.guard.trials import Trials, make_trials
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.calibration import ModelSample, lay_out
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.importing import LIBRARIES, Imported, import_file
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import judge as judge_output
from sdkpack.build.steps.samples import Arrays, given_shapes
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.documents.recipe import OptimizeSection
from sdkpack.host.params import ParamSchema
from sdkpack.model.branches import compared_numbers, conditions, with_outputs
from sdkpack.session.npz import read_npz

__all__ = ["optimize_step"]

_MAX_REAL: Final = 4
_KEPT: Final = "kept"


def optimize_step(
    id_: str,
    section: OptimizeSection,
    passes: Sequence[Pass],
    allowed: Allowed,
    *,
    before: Step,
    judge: Judge,
    sample: Mapping[str, Sequence[int]],
    samples: Sequence[ModelSample],
    seed: int,
    store: Store,
    fingerprints: Fingerprints,
) -> Step:
    """The step that optimises one model for one profile of targets.

    Args:
        id_: of the step; its first word is the model.
        section: the recipe's.
        passes: in their order.
        allowed: what the model may use afterwards.
        before: the step whose result is the model.
        judge: runs the models to compare them.
        sample: shapes of the inputs, where the author states them.
        samples: real inputs.
        seed: for made ones.
        store: where the model is.
        fingerprints: of this build.
    """
    tools = [f"{one.name}: {fingerprints.plugin(one.row.plugin)}; {one.fingerprint}" for one in passes]
    plan = plan_step(
        id=id_,
        kind="optimize",
        plugin="sdkpack",
        fingerprint="; ".join([*tools, judge.fingerprint, fingerprints.core(*LIBRARIES)]),
        params={
            "passes": {one.name: ParamSchema(one.row.info).dump(one.params) for one in passes},
            "opsets": None if allowed.opsets is None else list(allowed.opsets),
            "domains": list(allowed.domains),
            "operators": sorted(allowed.operators),
            "max_error": allowed.max_error,
            "strict": section.strict,
            "time_limit_s": section.time_limit_s,
            "sample": {name: list(shape) for name, shape in sample.items()},
            "seed": seed,
        },
        files=[stamp.digest for _, stamp in samples],
        after=(before.plan,),
    )
    work = _Work(id_.partition("/")[0], section, passes, allowed, before.id, judge, sample, samples, seed, store)
    known = before.cacheable and bool(judge.fingerprint) and all(one.fingerprint for one in passes)
    return Step(plan=plan, work=work, after=(before.id,), cacheable=known)


@dataclass(frozen=True, slots=True)
class _Work:
    model: str
    section: OptimizeSection
    passes: Sequence[Pass]
    allowed: Allowed
    before: str
    judge: Judge
    sample: Mapping[str, Sequence[int]]
    samples: Sequence[ModelSample]
    seed: int
    store: Store

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        before = Imported(results[self.before])
        folder = context.aside("original")
        path = model_input(self.model, before, self.store, folder).path
        original = Candidate.read(path, name=self.model, folder=folder / "parts")
        if not self.passes:
            return self._as_it_was(before, "no pass is switched on")
        judge: Judge | None = self.judge
        trials, note = Trials(rows=()), ""
        if original.large:
            judge, note = None, f"not compared: its weights are larger than {original.facts.parameter_bytes >> 30} GiB"
        else:
            context.progress(None, "trying the model")
            trials, note, steady = self._trials(before, original, context)
            if not steady:
                context.warn(note)
                return self._as_it_was(before, note)
        outcome = Rounds(
            original=original, passes=self.passes, allowed=self.allowed, judge=judge, trials=trials, context=context,
            limit_s=self.section.time_limit_s, strict=self.section.strict,
        ).run()  # fmt: skip
        return self._stored(before, original, outcome, trials, note, context)

    # Before the first pass ------------------------------------------------------------------------------------------
    def _trials(self, before: Imported, original: Candidate, context: BuildContext) -> tuple[Trials, str, bool]:
        """Trials, what is to be said of them, and whether the model answers the same each time."""
        real: list[Arrays] = []
        if self.samples:
            laid = lay_out(self.samples[:_MAX_REAL], before.inputs, context.aside("real"))
            real = [read_npz(path.read_bytes(), where=path.name) for path in laid]
        proto = original.proto()
        with ExitStack() as stack:
            run: Run = stack.enter_context(self.judge.opened(original, context.inside("original")))
            trials = make_trials(
                given_shapes(before.inputs, self.sample), run, seed=self.seed, real=real, ranges=before.ranges,
                numbers=compared_numbers(proto), what=f"model {self.model!r}",
            )  # fmt: skip
            first = trials.rows[0]
            again = run(first.inputs)
        for name, expected in first.outputs.items():
            tolerance = tolerance_for(str(expected.dtype)) if expected.dtype.kind == "f" else 0.0
            if not judge_output(name, again[name], expected, tolerance=tolerance).passed:
                return trials, f"it answers differently each time (output {name!r}), so no pass can be judged", False
        notes = [f"{len(trials.rows)} trials"]
        notes += [f"{symbol} in {', '.join(map(str, sizes))}" for symbol, sizes in trials.sizes.items()]
        asked = conditions(proto)
        if asked:
            both = self._both_ways(original, asked, trials, context)
            notes.append(f"{both} of {len(asked)} conditions seen both ways")
        return trials, "; ".join(notes), True

    def _both_ways(self, original: Candidate, asked: tuple[str, ...], trials: Trials, context: BuildContext) -> int:
        """How many conditions of the main graph were true in one trial and false in another."""
        from onnx import TensorProto, save

        from sdkpack.errors import InterruptedRunError, SdkpackError

        folder = context.aside("conditions")
        path = folder / "model.onnx"
        try:
            whole = original.proto()
            save(with_outputs(whole, asked, TensorProto.BOOL), str(path))
            shown = Candidate.read(path, name=self.model, folder=folder / "parts")
            seen: dict[str, set[bool]] = {name: set() for name in asked}
            with self.judge.opened(shown, context.inside("conditions")) as run:
                for trial in trials.rows:
                    found = run(trial.inputs)
                    for name in asked:
                        seen[name] |= {bool(value) for value in found[name].ravel()[:1]}
        except InterruptedRunError:
            raise
        except SdkpackError:
            return 0  # a condition of unknown rank cannot be made an output
        return sum(len(values) > 1 for values in seen.values())

    # Afterwards -----------------------------------------------------------------------------------------------------
    def _as_it_was(self, before: Imported, note: str) -> StoredResult:
        known = before.result.data
        finding = self._finding(passed=False, note=f"not optimised: {note}")
        evidence = [*known.get("evidence", ()), finding]
        return StoredResult(files=before.result.files, data={**known, "evidence": evidence, "passes": []})

    def _stored(
        self,
        before: Imported,
        original: Candidate,
        outcome: Outcome,
        trials: Trials,
        note: str,
        context: BuildContext,
    ) -> StoredResult:
        known, after = before.result.data, outcome.candidate
        kept = list(dict.fromkeys(run.name for run in outcome.runs if run.verdict == _KEPT))
        undone = {run.name: run.reason for run in reversed(outcome.runs) if run.verdict == "undone"}
        change = f"nodes {original.node_count} to {after.node_count}; {', '.join(kept) or 'nothing to do'}"
        refused = [f"undone: {name} ({reason})" for name, reason in sorted(undone.items())]
        finding = self._finding(
            passed=bool(trials.rows),
            note="; ".join([change, *refused, note]),
            tensors=[verdict.as_json() for verdict in outcome.verdicts],
            samples=[digest_bytes(write_npz(trial.inputs)) for trial in trials.rows],
            tools={name: version for run in outcome.runs for name, version in run.tools.items()},
        )
        data = {
            "evidence": [*known.get("evidence", ()), finding],
            "passes": [run.as_json() | {"seconds": round(run.seconds, 3)} for run in outcome.runs],
            "isolation": context.isolation,
        }
        if not kept:
            return StoredResult(files=before.result.files, data={**known, **data})
        result = import_file(after.model.path, self.store, context, name=f"the optimised {self.model!r}")
        carried = ("inputs", "outputs", "format", "ranges", "notes", "tools")
        same = {name: known[name] for name in carried if name in known}
        # What `model-metadata://` refers to is the author's; a pass may have dropped it from the file.
        metadata = {**known["metadata"], **result.data["metadata"]}
        return StoredResult(files=result.files, data={**result.data, **same, "metadata": metadata, **data})

    def _finding(self, *, passed: bool, note: str, **facts: Any) -> dict[str, Any]:
        return {
            "check": "optimization", "passed": passed, "reference": f"the model before, by {self.judge.name}",
            "where": {"kind": "host", "runtime": self.judge.name}, "samples": [], "tensors": [], "tools": {},
            "note": note, **facts,
        }  # fmt: skip
