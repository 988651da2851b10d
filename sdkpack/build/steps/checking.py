"""Check: the ONNX model against the source that it was made from, run by the source's own framework.

Both get the same inputs: the author's samples, or made ones. The source runs first of all twice on one input; what
answers differently each time (live dropout, noise) cannot be compared with anything, and is not ready for deployment.
Where an output differs, the first tensor of the graph that does is looked for and named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.guard.judges import Judge
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.converting import Conversion
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, Verdict, judge
from sdkpack.build.steps.reference import NotComparableError, reference_name
from sdkpack.build.steps.samples import Arrays
from sdkpack.build.steps.sides import Sides, unproven
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.errors import ModelError, ParityError, SdkpackError

__all__ = ["EVALUATE", "check_step"]

EVALUATE: Final = "evaluate"
"""The capability of converters that run the source."""

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
            return _with(model, [unproven(reason)])
        sides = Sides(
            conversion=self.conversion, model=model, sample=self.sample, settings=self.settings, judge=self.judge,
            store=self.store, context=context,
        )  # fmt: skip
        context.progress(None, "comparing with the source")
        try:
            return _with(model, _Comparison(sides).compared())
        except NotComparableError as error:
            reason = f"not compared with its source: {error}"
            context.warn(reason)
            return _with(model, [unproven(reason)])

    def _left_out(self) -> str:
        if not self.conversion.section.compare:
            return f"not compared with its source; the choice is {_AS_SAID}"
        if EVALUATE not in self.conversion.row.info.capabilities:
            return f"not compared with its source: converter {self.conversion.row.info.name!r} cannot run it"
        return ""


def _with(model: Imported, findings: list[dict[str, Any]]) -> StoredResult:
    known = model.result.data
    return StoredResult(files=model.result.files, data={**known, "evidence": [*known.get("evidence", ()), *findings]})


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Both sides, held against each other."""

    sides: Sides

    @property
    def name(self) -> str:
        return self.sides.name

    @property
    def tolerance(self) -> float:
        said = self.sides.conversion.section.max_error
        return tolerance_for("float32") if said is None else said

    def compared(self) -> list[dict[str, Any]]:
        """The evidence.

        Raises:
            ModelError: the source answers differently each time.
            NotComparableError: the source cannot be run here.
            ParityError: an output differs.
        """
        samples, found = self.sides.onnx()
        first, again, *others = self.sides.source([samples[0], *samples])
        self._check_steady(first, again)
        expected = [again, *others]
        worst, bad = self._worst(found, expected)
        if bad is not None and self.sides.witness == reference_name():
            # The reference has faults of its own. Where the source and a runtime agree, it is outvoted, and named.
            with suppress(NotComparableError):
                judged = self.sides.judge_runs(lambda run: [run(arrays) for arrays in samples])
                second, still_bad = self._worst(judged, expected)
                if still_bad is None:
                    error = worst[bad[0]].difference.normalized_error
                    self.sides.note([f"{reference_name()} gives another {bad[0]!r} ({error:.3g}) than both of them"])
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
            for spec in self.sides.model.outputs:
                verdict = self._judged(spec.name, onnx[spec.name], source[spec.name])
                known = worst.get(spec.name)
                if known is None or _error(verdict) > _error(known):
                    worst[spec.name] = verdict
                if not verdict.passed and bad is None:
                    bad = (spec.name, number)
                    worst[spec.name] = verdict
        return worst, bad

    def _check_steady(self, first: Arrays, again: Arrays) -> None:
        for spec in self.sides.model.outputs:
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
        self.sides.note([f"output {name!r} is equal in {equal:.2%} of its elements and one step off in the others"])
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
            source = self.sides.source([arrays], list(nodes))[0]
            shown = [name for name in nodes if name in source]
            found = self.sides.reference(arrays, shown)
        except (SdkpackError, NotComparableError) as error:
            return f"; the first tensor that differs could not be looked for: {error}", usual
        # An inner tensor of another shape shares no more than the name: the source may hold it in another layout.
        alike = [name for name in shown if name in found and found[name].shape == source[name].shape]
        inner = [name for name in alike if name not in {spec.name for spec in self.sides.model.outputs}]
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
        proto.ParseFromString(self.sides.store.read(self.sides.model.result.files["graph"]))
        rows = [
            (name, f"{node.op_type} node {node.name!r}" if node.name else f"a {node.op_type} node")
            for node in proto.graph.node
            for name in node.output
            if name
        ]
        every = max(1, math.ceil(len(rows) / _MAX_INNER))
        return dict(rows[::every])

    def _evidence(self, samples: Sequence[Arrays], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        made = "samples" if self.sides.conversion.samples else "made inputs"
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in samples[0].items())
        note = f"{len(samples)} runs on {made} of {shapes}; the source is deterministic"
        faint = [verdict.name for verdict in verdicts if verdict.faint]
        if faint:
            note += f"; all but zero for them, so that agreeing says little: {', '.join(faint)}"
            self.sides.context.warn(f"its outputs {', '.join(faint)} are all but zero for made inputs: give samples")
        return {
            "check": "conversion",
            "passed": all(verdict.passed for verdict in verdicts),
            "reference": f"the source, by {self.sides.conversion.row.info.name}",
            "samples": [digest_bytes(write_npz(arrays)) for arrays in samples],
            "tensors": [verdict.as_json() for verdict in verdicts],
            "where": {"kind": "host", "runtime": self.sides.witness},
            "tools": self.sides.tools,
            "note": "; ".join([note, *self.sides.notes]),
        }


def _error(verdict: Verdict) -> float:
    return verdict.difference.normalized_error
