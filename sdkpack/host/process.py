"""Runs a tool as a child that cannot outlive its step."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

from sdkpack.errors import InterruptedRunError, StepError

__all__ = ["INHERITED", "TimeLimitError", "end_group", "has_ended", "outcome", "run_tool", "supervise"]

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that a tool gets of the environment: keys and tokens that stand in the rest are none of its business."""

_POLL_S: Final = 0.05
_GRACE_S: Final = 2.0


class TimeLimitError(StepError):
    """A tool took too long and was ended."""


def run_tool(
    argv: Sequence[str],
    *,
    folder: Path,
    output: IO[bytes],
    environment: Mapping[str, str],
    timeout_s: float | None,
    cancelled: Callable[[], bool],
    where: str,
    log: Path,
) -> subprocess.CompletedProcess[Any]:
    """Runs `argv` in `folder`, standard output and error into `output`.

    Raises:
        StepError: it is missing, failed, crashed or took too long.
        InterruptedRunError: `cancelled` became true.
    """
    try:
        code = supervise(
            argv, folder=folder, output=output, environment=environment, timeout_s=timeout_s, cancelled=cancelled,
            where=where,
        )  # fmt: skip
    except TimeLimitError as error:
        error.hint = f"its output is in {log}"
        raise
    if code != 0:
        raise StepError(f"{argv[0]!r} {outcome(code)}", where=where, hint=f"its output is in {log}")
    return subprocess.CompletedProcess(list(argv), code)


def supervise(
    argv: Sequence[str],
    *,
    folder: Path,
    output: IO[bytes],
    environment: Mapping[str, str],
    timeout_s: float | None,
    cancelled: Callable[[], bool],
    where: str,
    watch: Callable[[int], None] = lambda _: None,
    keep_open: Sequence[int] = (),
) -> int:
    """Runs `argv` in `folder` and gives its exit code, negative for a signal.

    The tool gets a process group of its own, which is ended with it: on time-out, on cancel, where `watch` raises, and
    when the tool itself is done but something that it started is not.

    Raises:
        StepError: it cannot be started.
        TimeLimitError: it took too long.
        InterruptedRunError: `cancelled` became true.
    """
    limit = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StepError(f"cannot start {argv[0]!r}: {reason}", where=where, hint="see: sdkpack doctor") from error
    try:
        with _Waiting(process) as waiting:
            while not waiting.ended(_POLL_S):
                if cancelled():
                    raise InterruptedRunError("stopped by request", where=where)
                if limit is not None and time.monotonic() > limit:
                    raise TimeLimitError(f"{argv[0]!r} took longer than {timeout_s:g} s", where=where)
                watch(process.pid)
    except BaseException:
        end_group(process)
        raise
    _signal(process, signal.SIGKILL)
    return process.wait()


class _Waiting:
    """Waits for the end of a process without reaping it: until then its number, which names the group, is not given
    anew."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self._process = process
        self._fd = -1

    def __enter__(self) -> Self:
        # Where the kernel has them (5.3), a descriptor of the process wakes us at once, not at the next look.
        with suppress(OSError, AttributeError):
            self._fd = os.pidfd_open(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def ended(self, timeout_s: float) -> bool:
        if self._fd >= 0:
            select.select([self._fd], [], [], timeout_s)
        elif not _ended(self._process):
            time.sleep(timeout_s)
        return _ended(self._process)


def _ended(process: subprocess.Popen[Any]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def has_ended(process: subprocess.Popen[Any], timeout_s: float = 0.0) -> bool:
    """Whether a process ends within `timeout_s`. It is not reaped: until then its number, which names its group, is not
    given anew."""
    until = time.monotonic() + timeout_s
    with _Waiting(process) as waiting:
        while not waiting.ended(max(0.0, min(_POLL_S, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
    return True


def end_group(process: subprocess.Popen[Any]) -> None:
    """Ends a process and its group: kindly first, surely after two seconds. It must not have been waited for."""
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + _GRACE_S
    while not _ended(process) and time.monotonic() < until:
        time.sleep(_POLL_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def outcome(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"failed with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
