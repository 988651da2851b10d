from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.context import BuildContext
from sdkpack.build.runner import Results, Step, StepRunner
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.store import Store, StoredResult
from sdkpack.errors import InternalError, InterruptedRunError, ModelError
from tests.unit.build.conftest import Recorder

Work = Callable[[Results, BuildContext], StoredResult]


def value(number: int) -> Work:
    return lambda results, context: StoredResult(data={"n": number + sum(r.data["n"] for r in results.values())})


def fail(results: Results, context: BuildContext) -> StoredResult:
    raise ModelError("no good")


def step(name: str, work: Work, *after: Step, cacheable: bool = True) -> Step:
    plan = plan_step(
        id=name, kind="compile", plugin="p", fingerprint="f", params={"name": name}, after=[s.plan for s in after]
    )
    return Step(plan=plan, work=work, after=tuple(s.id for s in after), cacheable=cacheable)


def test_steps_get_the_results_that_they_need(runner: StepRunner) -> None:
    a, b = step("a", value(1)), step("b", value(10))
    c = step("c", value(100), a, b)
    d = step("d", value(1000), c)
    runs = runner.run([a, b, c, d]).done
    assert {name: run.result.data["n"] for name, run in runs.items()} == {"a": 1, "b": 10, "c": 111, "d": 1111}
    assert not any(run.cached for run in runs.values())


def test_a_second_run_does_nothing(runner: StepRunner, reporter: Recorder) -> None:
    calls: list[str] = []

    def counted(results: Results, context: BuildContext) -> StoredResult:
        calls.append("x")
        return StoredResult(data={"n": 1})

    for _ in range(3):
        run = runner.run([step("a", counted)]).done["a"]
    assert calls == ["x"]
    assert run.cached
    assert (reporter.ran, reporter.stored, reporter.steps) == (["a"], ["a", "a"], 3)


def test_a_step_without_a_fingerprint_runs_each_time(runner: StepRunner, reporter: Recorder) -> None:
    for _ in range(2):
        runner.run([step("a", value(1), cacheable=False)])
    assert reporter.ran == ["a", "a"]


def test_a_damaged_result_is_told_and_made_again(runner: StepRunner, store: Store, reporter: Recorder) -> None:
    def made(results: Results, context: BuildContext) -> StoredResult:
        return StoredResult(files={"f": store.put_bytes(b"x" * 100, "a/b")})

    file = runner.run([step("a", made)]).done["a"].result.files["f"]
    store.path(file.digest).chmod(0o600)
    store.path(file.digest).write_bytes(b"y" * 100)
    assert not runner.run([step("a", made)]).done["a"].cached
    assert len(reporter.warnings) == 1
    assert "damaged" in reporter.warnings[0]
    assert store.read(file) == b"x" * 100


def test_a_failure_stops_the_rest(runner: StepRunner, store: Store) -> None:
    bad = step("bad", fail)
    never = step("never", value(1), bad)
    with pytest.raises(ModelError, match="no good"):
        runner.run([bad, never])
    assert store.get(bad.plan.key) is None
    assert store.size().results == 0


def test_keep_going_runs_all_that_can_run_and_tells_all_failures(runner: StepRunner) -> None:
    bad, worse = step("bad", fail), step("worse", fail)
    never, good = step("never", value(1), bad), step("good", value(1))
    last = step("last", value(1), never)
    runs = runner.run([bad, never, last, worse, good], keep_going=True)
    assert set(runs.done) == {"good"}
    assert set(runs.failed) == {"bad", "worse"}


def test_results_of_earlier_runs_can_be_used(runner: StepRunner) -> None:
    a = step("a", value(1))
    first = runner.run([a]).done["a"].result
    assert runner.run([step("b", value(10), a)], before={"a": first}).done["b"].result.data["n"] == 11


def test_a_bug_in_a_step_is_an_internal_error(runner: StepRunner) -> None:
    def bug(results: Results, context: BuildContext) -> StoredResult:
        raise IndexError("oops")

    with pytest.raises(InternalError, match="step 'a'"):
        runner.run([step("a", bug)])


def test_independent_steps_run_at_the_same_time(runner: StepRunner) -> None:
    meeting = threading.Barrier(2, timeout=20)

    def meet(results: Results, context: BuildContext) -> StoredResult:
        meeting.wait()
        return StoredResult()

    assert set(runner.run([step("a", meet), step("b", meet)]).done) == {"a", "b"}


class Synchronous(Executor):
    """An executor that somebody else brings: it works in the caller's thread."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def test_another_executor_does_too(store: Store) -> None:
    a = step("a", value(1))
    runs = StepRunner(store=store, executor=Synchronous()).run([a, step("b", value(2), a)])
    assert runs.done["b"].result.data["n"] == 3


def test_cancel_stops_running_steps(store: Store) -> None:
    cancel = threading.Event()

    def endless(results: Results, context: BuildContext) -> StoredResult:
        (context.work / "half").write_text("half")
        while True:
            context.progress(None)
            time.sleep(0.01)

    threading.Timer(0.2, cancel.set).start()
    with StepRunner.threads(1) as executor, pytest.raises(InterruptedRunError):
        StepRunner(store=store, executor=executor, cancel=cancel).run([step("a", endless), step("b", endless)])
    assert list((store.root / "work").rglob("half")) == []
    assert store.size().results == 0


def test_control_c_tidies_up_and_says_so(tmp_path: Path) -> None:
    """In a process of its own: the signal must reach a main thread that waits."""
    root = tmp_path / "s"
    code = f"""
import sys, time
from pathlib import Path
from sdkpack.build.runner import Step, StepRunner
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.store import Store
from sdkpack.errors import InterruptedRunError
def work(results, context):
    (context.work / "half").write_text("half")
    print("ready", flush=True)
    while True:
        context.progress(None)
        time.sleep(0.01)
plan = plan_step(id="a", kind="compile", plugin="p", fingerprint="f", params={{}})
with Store(Path({str(root)!r})) as store, StepRunner.threads(1) as executor:
    try:
        StepRunner(store=store, executor=executor).run([Step(plan=plan, work=work)])
    except InterruptedRunError as error:
        sys.exit(error.exit_code)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
    assert [path for path in root.rglob("*") if path.is_file() and path.name not in ("CACHEDIR.TAG", "gate")] == []


def test_keys_say_all_that_matters_and_nothing_else() -> None:
    def key(**change: Any) -> str:
        facts: dict[str, Any] = {
            "id": "a", "kind": "compile", "plugin": "p", "fingerprint": "f", "params": {"x": 1}, "files": ["d"],
        }  # fmt: skip
        return plan_step(**{**facts, **change}).key

    assert key() == key(id="another name")
    changes: list[dict[str, Any]] = [
        {"kind": "golden"}, {"plugin": "q"}, {"fingerprint": "g"}, {"params": {"x": 2}}, {"params": {}}, {"files": []},
        {"files": ["e"]}, {"after": [plan_step(id="z", kind="import", plugin="p", fingerprint="f", params={})]},
    ]  # fmt: skip
    keys = [key(), *(key(**change) for change in changes)]
    assert len(set(keys)) == len(keys)
