"""Passes in rounds, until none of them changes anything: each result is kept or undone, and it is told why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from sdkpack.build.context import BuildContext
from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.guard.checks import Allowed, RejectedError, check_outputs, check_structure, worst
from sdkpack.build.guard.deadline import within
from sdkpack.build.guard.judges import Judge
from sdkpack.build.guard.passes import Pass
from sdkpack.build.guard.trials import Trials
from sdkpack.build.steps.parity import Verdict
from sdkpack.errors import InterruptedRunError, SdkpackError, StepError
from sdkpack.plugin.optimizer import OptimizeRequest, OptimizeResult
from sdkpack.plugin.runtime import ModelFile

__all__ = ["Outcome", "PassRun", "Rounds"]

_MOST_ROUNDS: Final = 8

Verdicts = Literal["kept", "nothing to do", "undone", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRun:
    """What became of one pass in one round."""

    name: str
    category: str
    round: int
    verdict: Verdicts
    reason: str = ""
    before: Mapping[str, int] = field(default_factory=dict)
    """Nodes by operator."""
    after: Mapping[str, int] = field(default_factory=dict)
    before_bytes: int = 0
    """Of all initializers and constants."""
    after_bytes: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Without what differs by run."""
        return {
            "name": self.name, "category": self.category, "round": self.round, "verdict": self.verdict,
            "reason": self.reason, "before": dict(self.before), "after": dict(self.after),
            "before_bytes": self.before_bytes, "after_bytes": self.after_bytes, "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a model."""

    candidate: Candidate
    runs: tuple[PassRun, ...]
    verdicts: tuple[Verdict, ...]
    """Of the last result that was kept, per output the worst; empty where nothing was compared."""


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Tries passes on one model.

    Args:
        original: the model.
        passes: in their order.
        allowed: what it may use afterwards.
        judge: runs the models; None where they are not run.
        trials: inputs, and what the original gives for them.
        context: the step's.
        limit_s: seconds for all of it; then the passes that are left are left out.
        strict: a pass that would be undone is an error.
    """

    original: Candidate
    passes: Sequence[Pass]
    allowed: Allowed
    judge: Judge | None
    trials: Trials
    context: BuildContext
    limit_s: float
    strict: bool
    _current: Candidate = field(init=False)
    _runs: list[PassRun] = field(default_factory=list)
    _verdicts: list[Verdict] = field(default_factory=list)
    _fixed: dict[str, bytes] = field(default_factory=dict)
    """By pass, the model that it changed nothing of, or whose change was undone: asked again it would do the same."""
    _seen: set[bytes] = field(default_factory=set)
    """Models at the end of a round: two passes may undo each other for ever."""
    _until: float = 0.0
    _count: int = 0

    def run(self) -> Outcome:
        """
        Raises:
            StepError: a pass was undone, and `strict`.
            InterruptedRunError: the user wants to stop.
        """
        self._current = self.original
        self._until = time.monotonic() + self.limit_s
        for number in range(1, _MOST_ROUNDS + 1):
            if not self._round(number):
                break
            now = _digest(self._current.model.path)
            if now in self._seen:
                break
            self._seen.add(now)
        return Outcome(candidate=self._current, runs=tuple(self._runs), verdicts=tuple(worst(self._verdicts)))

    def _round(self, number: int) -> bool:
        """Whether anything changed."""
        changed = False
        for place, one in enumerate(self.passes):
            if number > 1 and not one.row.info.repeats:
                continue
            self.context.progress(place / len(self.passes), f"round {number}: {one.name}")
            reason = self._left_out(one)
            if reason:
                if number == 1 or "time" in reason:
                    self._runs.append(self._told(one, number, "left out", reason))
                continue
            known = _digest(self._current.model.path)
            if self._fixed.get(one.name) == known:
                continue
            if self._try(one, number):
                changed = True
            else:
                self._fixed[one.name] = known
        return changed

    def _left_out(self, one: Pass) -> str:
        if time.monotonic() > self._until:
            return f"the time for this model is over ({self.limit_s:g} s)"
        if self.original.large and not one.takes_large:
            return f"the model's weights are larger than {self.original.facts.parameter_bytes >> 30} GiB"
        return ""

    def _try(self, one: Pass, number: int) -> bool:
        begin = time.monotonic()
        try:
            result = self._result(one)
            if not result.modified or _digest(result.model) == _digest(self._current.model.path):
                self._runs.append(self._told(one, number, "nothing to do", begin=begin, result=result))
                return False
            after, verdicts = self._looked_at(one, result)
        except InterruptedRunError:
            raise
        except (SdkpackError, RejectedError) as error:
            reason = getattr(error, "message", "") or str(error)
            self._undone(one, number, reason, begin, error)
            return False
        run = self._told(one, number, "kept", begin=begin, result=result, after=after)
        self._runs.append(run)
        self._current = after
        self._verdicts = verdicts or self._verdicts
        return True

    def _result(self, one: Pass) -> OptimizeResult:
        """
        Raises:
            RejectedError: what came back is no result, or names no file of the work folder.
            SdkpackError: the pass failed.
        """
        info, context = one.row.info, self.context.inside(one.name.replace(".", "-"))
        model = self._current.model
        request = OptimizeRequest(
            model=ModelFile(name=model.name, path=model.path, inputs=model.inputs, outputs=model.outputs),
            params=one.params, opsets=self.allowed.opsets, domains=self.allowed.domains,
        )  # fmt: skip
        limit_s = min(info.time_limit_s, max(self._until - time.monotonic(), 1.0))
        apart = info.half.isolation != "in-process"  # such a pass is ended from outside
        result: object = (
            one.optimizer.optimize(request, context)
            if apart
            else within(lambda: one.optimizer.optimize(request, context), limit_s, what=f"optimizer {one.name!r}")
        )
        if not isinstance(result, OptimizeResult):
            raise RejectedError(f"it returned a {type(result).__name__}, expected an OptimizeResult")
        path = result.model.resolve()
        if result.modified and (not path.is_relative_to(context.work.resolve()) or result.model.is_symlink()):
            raise RejectedError(f"it returned no file of its work folder: {result.model.name!r}")
        if result.modified and not path.is_file():
            raise RejectedError(f"its result {result.model.name!r} is not there")
        if result.modified and result.keeps_data:
            return replace(result, model=self._beside_its_data(result.model))
        return result

    def _beside_its_data(self, model: Path) -> Path:
        """The result's file in the folder of the model that it was made from, under a name that is free there."""
        folder = self._current.model.path.parent
        self._count += 1
        path = folder / f"result-{self._count}.onnx"
        while path.exists():
            self._count += 1
            path = folder / f"result-{self._count}.onnx"
        shutil.copyfile(model, path)
        return path

    def _looked_at(self, one: Pass, result: OptimizeResult) -> tuple[Candidate, list[Verdict]]:
        context = self.context.inside("look")
        after = Candidate.read(result.model, name=self.original.model.name, folder=context.work / "parts")
        check_structure(self.original, after, self.allowed)
        if self.judge is None:
            return after, []
        with ExitStack() as stack:
            try:
                run = stack.enter_context(self.judge.opened(after, context))
            except InterruptedRunError:
                raise
            except SdkpackError as error:
                raise RejectedError(f"{self.judge.name} does not take it: {error.message}") from error
            return after, check_outputs(self.trials.rows, run, self.allowed)

    def _undone(self, one: Pass, number: int, reason: str, begin: float, error: Exception) -> None:
        if self.strict:
            raise StepError(
                f"pass {one.name!r} would have to be undone: {reason}",
                hint="switch it off (optimize.passes), or let it be undone (strict = false)",
            ) from error
        self.context.warn(f"pass {one.name!r} is undone: {reason}")
        self._runs.append(self._told(one, number, "undone", reason, begin=begin))

    def _told(
        self,
        one: Pass,
        number: int,
        verdict: Verdicts,
        reason: str = "",
        *,
        begin: float | None = None,
        result: OptimizeResult | None = None,
        after: Candidate | None = None,
    ) -> PassRun:
        now, then = after or self._current, self._current
        return PassRun(
            name=one.name, category=one.row.info.category, round=number, verdict=verdict, reason=reason,
            before=then.nodes, after=now.nodes, before_bytes=then.facts.parameter_bytes,
            after_bytes=now.facts.parameter_bytes, seconds=0.0 if begin is None else time.monotonic() - begin,
            notes=result.notes if result else (), tools=dict(result.tools) if result else {},
        )  # fmt: skip


def _digest(path: Path) -> bytes:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
