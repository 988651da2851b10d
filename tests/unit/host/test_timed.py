"""Time limits in this process: held where a tool asks, told where it does not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sdkpack.errors import InterruptedRunError, StepError
from sdkpack.host.timed import TimedTool
from tests.unit.host.conftest import Bench


class Tool:
    """Does what it was made for; its request is handed back."""

    def __init__(self, work: Any = None) -> None:
        self.work = work

    def probe(self) -> str:
        return "probed"

    def convert(self, request: Any, context: Any) -> Any:
        if self.work:
            self.work(context)
        return request


def call(bench: Bench, work: Any, *, limit_s: float) -> tuple[Any, list[str]]:
    warned: list[str] = []
    with bench.context() as context:
        context.warn = warned.append  # type: ignore[method-assign]
        answer = TimedTool(Tool(work), name="acme.slow", limit_s=limit_s).convert("answer", context)
    return answer, warned


def test_a_call_in_time_is_as_without_a_limit(bench: Bench) -> None:
    def work(context: Any) -> None:
        context.progress(0.5, "half")
        context.log.info("working on %s with seed %d", context.work, context.seed)
        context.run(["true"])
        assert isinstance(context.work, Path)

    assert call(bench, work, limit_s=60) == ("answer", [])
    assert TimedTool(Tool(), name="acme.slow", limit_s=1).probe() == "probed"
    assert (0.5, "half") in bench.reporter.texts


def test_it_is_stopped_where_it_tells_of_its_progress(bench: Bench) -> None:
    def work(context: Any) -> None:
        while True:
            time.sleep(0.01)
            context.progress(None, "still")

    with pytest.raises(StepError, match=r"'acme.slow' took longer than 0.1 s and was stopped") as caught:
        call(bench, work, limit_s=0.1)
    assert "time_limit_s" in caught.value.hint


def test_a_program_that_it_runs_gets_the_rest_of_its_time(bench: Bench) -> None:
    with pytest.raises(StepError, match=r"'acme.slow' took longer than 0.2 s and was stopped"):
        call(bench, lambda context: context.run(["sleep", "60"]), limit_s=0.2)
    # A limit of the tool's own is its own matter.
    with pytest.raises(StepError, match=r"'sleep' took longer than 0.1 s"):
        call(bench, lambda context: context.run(["sleep", "60"], timeout_s=0.1), limit_s=60)


def test_one_that_does_not_ask_is_told_of_and_its_work_is_kept(bench: Bench) -> None:
    answer, warned = call(bench, lambda _: time.sleep(0.4), limit_s=0.1)
    assert answer == "answer"
    assert warned == [
        "'acme.slow' is over its limit of 0.1 s, and cannot be stopped in this process but with all of it"
    ]


def test_a_users_wish_to_stop_comes_first(bench: Bench) -> None:
    def work(context: Any) -> None:
        time.sleep(0.2)
        bench.cancel.set()
        context.progress(None)

    with pytest.raises(InterruptedRunError):
        call(bench, work, limit_s=0.1)
