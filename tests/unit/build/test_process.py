from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from sdkpack.build.context import BuildContext, step_context
from sdkpack.build.store import Store
from sdkpack.errors import InternalError, InterruptedRunError, ModelError, StepError
from tests.unit.build.conftest import Recorder

SECRET = "canary-5f1d"


def context_of(store: Store, reporter: Recorder | None = None, cancel: threading.Event | None = None):
    environment = {"PATH": os.environ["PATH"], "ACME_TOKEN": SECRET, "LANG": "C.UTF-8"}
    return step_context(
        "net/compile", plugin="acme", store=store, reporter=reporter or Recorder(), cancel=cancel or threading.Event(),
        environment=environment,
    )  # fmt: skip


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def log_of(store: Store) -> str:
    return next((store.root / "logs").glob("*.log")).read_text()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_a_tool_works_in_the_work_folder_with_its_output_in_the_log(store: Store) -> None:
    with context_of(store) as context:
        done = context.run(python("import os; print(os.getcwd()); open('made', 'w').write('x')"))
        assert done.returncode == 0
        assert (context.work / "made").read_text() == "x"
        log = (context.work.parent / "log").read_text()
        assert str(context.work) in log
    assert not context.work.exists()


def test_a_tool_sees_no_secret_and_no_home_of_the_user(store: Store) -> None:
    with context_of(store) as context:
        context.run(python("import os, json; json.dump(dict(os.environ), open('env', 'w'))"), env={"EXTRA": "1"})
        text = (context.work / "env").read_text()
        assert SECRET not in text
        assert f'"HOME": "{context.work}"' in text
        assert '"EXTRA": "1"' in text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import sys; print('why it failed'); sys.exit(3)", "failed with exit code 3"),
        ("import os; print('why it failed', flush=True); os.abort()", "was ended by SIGABRT"),
    ],
)
def test_a_failing_tool_is_told_with_its_log(store: Store, code: str, text: str) -> None:
    with pytest.raises(StepError, match=text) as error, context_of(store) as context:
        context.run(python(code))
    assert str(store.root / "logs") in error.value.hint
    assert "why it failed" in log_of(store)


def test_a_missing_tool_is_told(store: Store) -> None:
    with pytest.raises(StepError, match="cannot start 'no-such-tool'"), context_of(store) as context:
        context.run(["no-such-tool"])


def test_a_tool_that_takes_too_long_is_ended_with_all_that_it_started(store: Store) -> None:
    code = (
        "import subprocess, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('pids', 'w').write(f'{child.pid}'); time.sleep(60)"
    )
    pid = 0
    with pytest.raises(StepError, match=r"took longer than 1 s"), context_of(store) as context:
        try:
            context.run(python(code), timeout_s=1)
        finally:
            pid = int((context.work / "pids").read_text())
    assert gone(pid)


def test_what_a_tool_leaves_running_is_ended_when_it_is_done(store: Store) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('pid', 'w').write(str(child.pid))"
    )
    with context_of(store) as context:
        context.run(python(code))
        assert gone(int((context.work / "pid").read_text()))


def test_cancel_ends_a_tool(store: Store) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    begin = time.monotonic()
    with pytest.raises(InterruptedRunError), context_of(store, cancel=cancel) as context:
        context.run(python("import time; time.sleep(60)"))
    assert time.monotonic() - begin < 10
    assert list((store.root / "logs").iterdir()) == []


def test_progress_is_passed_on_and_cancel_stops_there(store: Store) -> None:
    reporter, cancel = Recorder(), threading.Event()
    with context_of(store, reporter, cancel) as context:
        context.progress(7.0, "too much is cut")
        context.progress(None, "no idea")
        assert reporter.texts == ["too much is cut", "no idea"]
        cancel.set()
        with pytest.raises(InterruptedRunError):
            context.progress(0.5)
        with pytest.raises(InterruptedRunError):
            context.run(["true"])


def test_a_typed_error_passes_and_a_bug_becomes_an_internal_error_with_its_log(store: Store) -> None:
    with pytest.raises(ModelError, match="no good"), context_of(store):
        raise ModelError("no good")
    with (
        pytest.raises(InternalError, match=r"step 'net/compile' \(acme\) crashed: KeyError") as error,
        context_of(store),
    ):
        raise KeyError("k")
    assert error.value.exit_code == 3
    assert "Traceback" in log_of(store)
    assert str(store.root / "logs") in error.value.hint


def test_the_work_folder_is_private_empty_and_alone(store: Store) -> None:
    with context_of(store) as one, context_of(store) as two:
        assert one.work != two.work
        assert list(one.work.iterdir()) == []
        assert one.work.stat().st_mode & 0o777 == 0o700
        assert isinstance(one, BuildContext)
        assert one.seed == two.seed
