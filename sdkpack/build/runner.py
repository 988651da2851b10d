"""Runs steps in the order that they need each other, as many at a time as an executor allows, each at most once ever.

A step whose key the store knows is not run. The executor's workers share this process: progress, cancel and the store
are objects in memory. `KeyboardInterrupt` in the calling thread cancels the running steps, waits until they have tidied
up, and becomes an `InterruptedRunError`; a second one no longer waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from sdkpack.build.context import BuildContext, step_context
from sdkpack.build.pins import PLUGIN_KINDS, Identities, check_pin, check_same, pinned_key, result_digest
from sdkpack.build.progress import NullReporter, Reporter
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.plan import PlanStep
from sdkpack.errors import InterruptedRunError, SdkpackError
from sdkpack.types import Digest

__all__ = ["Runs", "Step", "StepRun", "StepRunner", "default_jobs", "step_runner"]

Results = Mapping[str, StoredResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a plan with the work that it means."""

    plan: PlanStep
    work: Callable[[Results, BuildContext], StoredResult]
    """Gets the results of the steps in `after`, by id; its files must be in the store when it returns."""
    after: tuple[str, ...] = ()
    cacheable: bool = True
    """False where nothing tells whether the tool would give the same again: it has no fingerprint."""

    @property
    def id(self) -> str:
        return self.plan.id


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """What became of a step."""

    id: str
    result: StoredResult
    cached: bool
    seconds: float


@dataclass(slots=True)
class Runs:
    """What became of several steps."""

    done: dict[str, StepRun] = field(default_factory=dict)
    failed: dict[str, SdkpackError] = field(default_factory=dict)


def default_jobs() -> int:
    """As many as there are processors, but few enough that their models fit into memory together."""
    return min(len(os.sched_getaffinity(0)), 4)


@contextmanager
def step_runner(
    store: Store,
    *,
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    cancel: threading.Event | None = None,
    pins: Mapping[str, PlanStep] | None = None,
    twice: bool = False,
) -> Iterator[StepRunner]:
    """A runner with this process's variables.

    Args:
        store: keeps what steps make.
        reporter: gets told how it goes.
        executor: runs the steps, in this process; threads of its own by default.
        cancel: set it to stop.
        pins: steps of a plan that says what they give, by id.
        twice: runs what plugins do twice, and holds one against the other.
    """
    chosen = executor or StepRunner.threads()
    try:
        yield StepRunner(
            store=store, executor=chosen, reporter=reporter or NullReporter(), environment=dict(os.environ),
            cancel=cancel or threading.Event(), pins=pins or {}, twice=twice,
        )  # fmt: skip
    finally:
        if executor is None:
            # Not waited for: on a second ^C a step that does not listen must not hold the user up.
            chosen.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class StepRunner:
    """Runs steps with one store."""

    store: Store
    executor: Executor
    reporter: Reporter = field(default_factory=NullReporter)
    environment: Mapping[str, str] = field(default_factory=dict)
    """What tools inherit their few variables from."""
    cancel: threading.Event = field(default_factory=threading.Event)
    pins: Mapping[str, PlanStep] = field(default_factory=dict)
    """Steps of a plan that says what they give, by id; another result is refused."""
    twice: bool = False
    """Runs each step of a plugin once more, also where the store knows it, and refuses one that says that it is
    deterministic and is not."""
    identities: Identities = field(default_factory=Identities)
    """Of the steps of one build, which may come in several calls of `run`."""

    @staticmethod
    def threads(jobs: int | None = None) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=jobs or default_jobs(), thread_name_prefix="sdkpack-step")

    def run(self, steps: Sequence[Step], *, before: Results | None = None, keep_going: bool = False) -> Runs:
        """Runs `steps`, given in an order in which each stands after those that it needs.

        Args:
            steps: what to run.
            before: results of steps that ran earlier.
            keep_going: runs what does not need a failed step, so that all failures are known; they stand in `failed`.

        Raises:
            SdkpackError: a step failed, and not `keep_going`.
            InterruptedRunError: the user or the program wants to stop.
        """
        self.reporter.planned(len(steps))
        runs = Runs()
        waiting = list(steps)
        running: dict[Future[StepRun], Step] = {}
        try:
            while waiting or running:
                if keep_going or not runs.failed:
                    self._start_ready(waiting, running, runs, before or {})
                else:
                    waiting.clear()
                if running:
                    self._collect(running, runs, keep_going)
        except KeyboardInterrupt:
            self._stop(running)
            raise InterruptedRunError("stopped by request") from None
        if self.cancel.is_set() or any(isinstance(error, InterruptedRunError) for error in runs.failed.values()):
            own = [error for error in runs.failed.values() if not isinstance(error, InterruptedRunError)]
            raise own[0] if own else InterruptedRunError("stopped by request")
        if runs.failed and not keep_going:
            raise next(iter(runs.failed.values()))
        return runs

    def _start_ready(
        self, waiting: list[Step], running: dict[Future[StepRun], Step], runs: Runs, before: Results
    ) -> None:
        for step in list(waiting):
            if any(needed in runs.failed for needed in step.after):
                waiting.remove(step)
                # Not an error of its own; what needs it cannot run either.
                continue
            known = {name: before[name] if name in before else runs.done[name].result
                     for name in step.after if name in before or name in runs.done}  # fmt: skip
            if len(known) == len(step.after):
                waiting.remove(step)
                running[self.executor.submit(self._one, step, known, self.identities.key(step.plan))] = step
        if waiting and not running:
            # All that is left waits for a step that was dropped, or for one that is not among them.
            waiting.clear()

    def _collect(self, running: dict[Future[StepRun], Step], runs: Runs, keep_going: bool) -> None:
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            step = running.pop(future, None)
            if step is None:
                continue  # stopped because of another one
            try:
                runs.done[step.id] = future.result()
                self.identities.settle(step.plan, runs.done[step.id].result)
            except SdkpackError as error:
                runs.failed[step.id] = error
                if not keep_going:
                    self._stop(running)

    def _stop(self, running: dict[Future[StepRun], Step]) -> None:
        self.cancel.set()
        for future in running:
            future.cancel()
        wait([future for future in running if not future.cancelled()])
        running.clear()

    def _one(self, step: Step, results: Results, key: Digest) -> StepRun:
        begin = time.perf_counter()
        if self.cancel.is_set():
            raise InterruptedRunError("stopped by request", where=step.id)
        pin = self._pin(step)
        result = known = self._known(step, key, pin)
        if known is not None:
            self.reporter.cached(step.id)
        if result is None:
            result = self._done(step, results, lambda made: self._keep(step, key, pin, made))
        if self.twice and step.plan.deterministic and step.plan.kind in PLUGIN_KINDS:
            first = result
            self._done(step, results, lambda made: check_same(step.plan, first, made))
        return StepRun(id=step.id, result=result, cached=known is not None, seconds=time.perf_counter() - begin)

    def _known(self, step: Step, key: Digest, pin: Digest | None) -> StoredResult | None:
        """What the store has of a step."""
        if not step.cacheable and pin is None:
            return None
        known = self.store.get(key if pin is None else pinned_key(key, pin))
        if known is None and self.store.known(key):
            self.reporter.warned(f"{step.id}: what the store has of it is damaged or incomplete, so it runs again")
        return known

    def _keep(self, step: Step, key: Digest, pin: Digest | None, result: StoredResult) -> None:
        if pin is not None:
            check_pin(step.plan, result, pin)
        if not step.plan.deterministic:
            # A plan that is pinned to it finds it even when another run gave something else.
            self.store.put(pinned_key(key, result_digest(result)), result)
        self.store.put(key, result)

    def _done(self, step: Step, results: Results, then: Callable[[StoredResult], None]) -> StoredResult:
        """The work of a step; `then` is done with its result while its log is still there."""
        begin = time.perf_counter()
        self.reporter.started(step.id)
        with step_context(
            step.id,
            plugin=step.plan.plugin,
            store=self.store,
            reporter=self.reporter,
            cancel=self.cancel,
            environment=self.environment,
        ) as context:
            result = step.work(results, context)
            then(result)
        self.reporter.finished(step.id, time.perf_counter() - begin)
        return result

    def _pin(self, step: Step) -> Digest | None:
        found = self.pins.get(step.id)
        return found.result if found is not None and found.key == step.plan.key else None
