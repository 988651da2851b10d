"""Runs cases in children of this process, so that one which crashes or hangs costs itself and nothing else.

Children are forked: the suite takes seconds to compute, and a child has it at once. The parent must have no threads and
must not have loaded the runtime under test; `python -m sdkpack.testing.coverage` is such a process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

__all__ = ["Died", "run_isolated"]

_STOP: Final = b""


@dataclass(frozen=True, slots=True)
class Died:
    """A child ended, or was ended, in the middle of a job."""

    reason: str


@dataclass(slots=True)
class _Child:
    process: Any
    pipe: Connection
    job: int | None = None
    since: float = 0.0

    def give(self, job: int) -> None:
        self.job, self.since = job, time.monotonic()
        self.pipe.send_bytes(str(job).encode())

    def end(self) -> None:
        try:
            self.pipe.send_bytes(_STOP)
        except OSError:
            self.process.kill()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def run_isolated(
    prepare: Callable[[], Callable[[int], dict[str, Any]]], jobs: Sequence[int], *, workers: int, limit_s: float
) -> Iterator[tuple[int, dict[str, Any] | Died]]:
    """Runs jobs by number; results in the order in which they end.

    Args:
        prepare: called once in each child; gives what does a job. Results are JSON.
        jobs: their numbers.
        workers: how many children at a time.
        limit_s: for one job.
    """
    waiting = list(reversed(jobs))
    children = [_start(prepare) for _ in range(min(workers, len(jobs)))]
    try:
        for child in children:
            child.give(waiting.pop())
        while any(child.job is not None for child in children):
            ready = set(wait([child.pipe for child in children if child.job is not None], timeout=1.0))
            for number, child in enumerate(children):
                if child.job is None:
                    continue
                result = _collect(child, child.pipe in ready, limit_s)
                if result is None:
                    continue
                yield child.job, result
                child.job = None
                if isinstance(result, Died):
                    child.end()
                    children[number] = _start(prepare)
                if waiting:
                    children[number].give(waiting.pop())
    finally:
        for child in children:
            child.end()


def _collect(child: _Child, ready: bool, limit_s: float) -> dict[str, Any] | Died | None:
    if ready:
        try:
            result: dict[str, Any] = json.loads(child.pipe.recv_bytes())
            return result
        except (EOFError, OSError):
            child.process.join()
            return Died(_ending(child.process.exitcode))
    if time.monotonic() - child.since > limit_s:
        child.process.kill()
        child.process.join()
        return Died(f"took longer than {limit_s:g} s")
    return None


def _start(prepare: Callable[[], Callable[[int], dict[str, Any]]]) -> _Child:
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, prepare), daemon=True)
    process.start()
    its.close()
    return _Child(process, mine)


def _serve(pipe: Connection, prepare: Callable[[], Callable[[int], dict[str, Any]]]) -> None:
    # What native libraries print must not reach the report.
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    work = prepare()
    while (job := pipe.recv_bytes()) != _STOP:
        pipe.send_bytes(json.dumps(work(int(job))).encode())


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"
