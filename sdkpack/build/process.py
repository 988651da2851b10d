"""Runs a tool as a child that cannot outlive its step."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from sdkpack.errors import InterruptedRunError, StepError

__all__ = ["INHERITED", "run_tool"]

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that a tool gets of the environment: keys and tokens that stand in the rest are none of its business."""

_POLL_S: Final = 0.05
_GRACE_S: Final = 2.0


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

    The tool gets a process group of its own, which is ended with it: on time-out, on cancel, and when the tool itself
    is done but something that it started is not.

    Raises:
        StepError: it is missing, failed, crashed or took too long.
        InterruptedRunError: `cancelled` became true.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StepError(f"cannot start {argv[0]!r}: {reason}", where=where, hint="see: sdkpack doctor") from error
    try:
        if not _wait(process, timeout_s, cancelled):
            raise StepError(
                f"{argv[0]!r} took longer than {timeout_s:g} s", where=where, hint=f"its output is in {log}"
            )
    except BaseException:
        _end_group(process)
        raise
    _signal(process, signal.SIGKILL)
    code = process.wait()
    if code != 0:
        raise StepError(f"{argv[0]!r} {_outcome(code)}", where=where, hint=f"its output is in {log}")
    return subprocess.CompletedProcess(list(argv), code)


def _wait(process: subprocess.Popen[Any], timeout_s: float | None, cancelled: Callable[[], bool]) -> bool:
    """Waits until the tool is done; false where it is not in time."""
    limit = None if timeout_s is None else time.monotonic() + timeout_s
    while not _ended(process):
        if cancelled():
            raise InterruptedRunError("stopped by request")
        if limit is not None and time.monotonic() > limit:
            return False
        time.sleep(_POLL_S)
    return True


def _ended(process: subprocess.Popen[Any]) -> bool:
    # WNOWAIT leaves the process to be reaped later: until then its number, which names the group, is not given anew.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[Any]) -> None:
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + _GRACE_S
    while not _ended(process) and time.monotonic() < until:
        time.sleep(_POLL_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _outcome(code: int) -> str:
    if code >= 0:
        return f"failed with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
