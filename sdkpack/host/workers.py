"""Runs one method of a plugin's class, or a program, outside of this process: one process a job.

The job folder is the contract (docs/plugins/isolation.md): request and answer are files, what the toolchain prints
goes to the log alone, and nothing that it writes is executed, unpickled or believed. The answer is read by the types
that the plugin API declares, and its paths must lead into the work folder.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from sdkpack.errors import (
    InternalError,
    ModelError,
    PluginBrokenError,
    PluginError,
    SdkpackError,
    StepError,
)
from sdkpack.host.environments import worker_variables
from sdkpack.host.process import TimeLimitError, outcome
from sdkpack.host.sandbox import Limits, Sandboxed, job_package, run_sandboxed

__all__ = ["Job", "JobResult", "run_job", "typed"]

ResultT = TypeVar("ResultT")

_MAX_ANSWER_BYTES: Final = 4 << 20
_MAX_PROGRESS_BYTES: Final = 1 << 16
_TAIL_BYTES: Final = 16 << 10
_ERRORS: Final[Mapping[str, type[SdkpackError]]] = {
    "E301": ModelError, "E302": ModelError, "E303": ModelError, "E304": StepError, "E501": PluginError,
}  # fmt: skip
"""What a plugin may raise; any other error is a fault of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call to be made."""

    plugin: str
    subject: str
    """What it works on, for messages: a model's name."""
    method: str
    request: object = None
    """A dataclass of the plugin API, or None for a method without one."""
    context: bool = True
    """Whether the method gets a context."""
    load: str = ""
    packages: Mapping[str, Path] = field(default_factory=dict)
    """Top-level packages that the class may import -> the folders that hold them."""
    command: tuple[str, ...] = ()
    """Instead of `load`: a program that takes the job folder as one more argument."""
    python: Path | None = None
    """Runs `load`."""
    readable: tuple[Path, ...] = ()
    search: tuple[Path, ...] = ()
    """Folders for the job's PATH."""
    limits: Limits
    network: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came back."""

    answer: Any
    """JSON; paths still as the job wrote them."""
    work: Path
    log: Path
    enforced: Mapping[str, str]


def run_job(
    job: Job,
    folder: Path,
    *,
    log: Path,
    progress: Callable[[float | None, str], None] = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> JobResult:
    """Runs `job` in `folder`, which is made.

    Raises:
        StepError: it failed, crashed, took too long or too much; the message names plugin and input.
        ModelError: it says that the model is at fault.
        PluginBrokenError: its answer is missing or no answer.
        InternalError: it raised what the plugin API does not provide for.
        InterruptedRunError: `cancelled` became true.
    """
    work, home, temporary, answer = _prepare(job, folder)
    feed = _Progress(folder / "progress.ndjson", progress)
    where = f"plugin {job.plugin!r} on {job.subject!r}"
    with log.open("ab") as output:
        start = output.tell()
        try:
            done = run_sandboxed(
                _argv(job, folder), folder=folder, work=work, output=output,
                environment=worker_variables(home, temporary, *job.search),
                readable=_readable(job, folder),
                writable=[work, home, temporary, answer, folder / "progress.ndjson"],
                limits=job.limits, network=job.network, cancelled=cancelled, where=where, watch=feed.read,
            )  # fmt: skip
        except TimeLimitError as error:
            raise StepError(
                f"it took longer than {job.limits.time_s:g} s and was ended", where=where, hint=_see(log)
            ) from error
        except StepError as error:
            error.hint = error.hint or _see(log)
            raise
    feed.read()
    with _naming(where, log):
        return JobResult(
            answer=_judge(done, answer / "result.json", job, log, start), work=work, log=log, enforced=done.enforced
        )


def _prepare(job: Job, folder: Path) -> tuple[Path, Path, Path, Path]:
    from sdkpack_job.codec import encode

    folders = work, home, temporary, answer = tuple(folder / name for name in ("work", "home", "tmp", "answer"))
    folder.mkdir(mode=0o700)
    for path in folders:
        path.mkdir(mode=0o700)
    (folder / "progress.ndjson").touch(mode=0o600)
    facts = {
        "job": 1,
        "plugin": job.plugin,
        "method": job.method,
        "load": job.load,
        "packages": {name: str(path) for name, path in job.packages.items()},
        "request": None if job.request is None else encode(job.request),
        "context": job.context,
        "seed": job.seed,
        "work": str(work),
        "result": str(answer / "result.json"),
        "progress": str(folder / "progress.ndjson"),
        "limits": {"memory_bytes": job.limits.memory_bytes, "disk_bytes": job.limits.disk_bytes},
    }
    (folder / "job.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return work, home, temporary, answer


def _argv(job: Job, folder: Path) -> list[str]:
    if job.command:
        return [*job.command, str(folder)]
    return [str(job.python or sys.executable), "-I", "-B", str(job_package()), str(folder)]


def _readable(job: Job, folder: Path) -> list[Path]:
    packages = [base / name for name, base in job.packages.items()]
    modules = [path.with_suffix(".py") for path in packages]
    paths = _paths_in(job.request)
    return [*job.readable, *packages, *modules, job_package(), folder / "job.json", *paths]


def _paths_in(value: object) -> Iterator[Path]:
    """Every path of a request: what the user's model is read by, and no more."""
    if isinstance(value, Path):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from _paths_in(getattr(value, part.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item)


def _judge(done: Sandboxed, path: Path, job: Job, log: Path, start: int) -> Any:
    """The answer, or the error that the end of the job amounts to."""
    tail = _tail(log, start)
    if done.code < 0:
        text = f"it {outcome(done.code)}"
        if done.code == -9:
            text += ", most likely because memory ran out"
        elif done.code == -25:
            text = f"it wrote more than {job.limits.disk_bytes} bytes and was ended"
        raise StepError(text)
    answer = _read_answer(path) if path.exists() or path.is_symlink() else None
    if answer is not None and not answer.get("ok"):
        raise _told(answer.get("error"), job)
    if done.code != 0:
        raise StepError(f"it {outcome(done.code)}" + (f": {tail}" if tail else ""))
    if answer is None:
        raise PluginBrokenError("it ended without an answer")
    return answer.get("result")


def _told(error: Any, job: Job) -> SdkpackError:
    facts = error if isinstance(error, dict) else {}
    kind, code, message, hint = (str(facts.get(name, "")) for name in ("type", "code", "message", "hint"))
    if kind == "MemoryError" or "std::bad_alloc" in message:
        return StepError(f"memory ran out, its limit is {job.limits.memory_bytes} bytes")
    if kind == "OSError" and f"[Errno {errno.EFBIG}]" in message:
        return StepError(f"it wrote more than {job.limits.disk_bytes} bytes")
    if kind == "BlockingIOError" and f"[Errno {errno.EAGAIN}]" in message:
        # Of fork(2): the kernel's own limit, where it counts the user's processes.
        return StepError(f"it started more than {job.limits.processes} processes")
    if code in _ERRORS:
        return _ERRORS[code](message, hint=hint)
    if kind in ("ImportError", "ModuleNotFoundError"):
        return PluginBrokenError(f"it needs what its environment does not hold: {message}")
    return InternalError(f"it crashed: {kind}: {message}".removesuffix(": "))


def _read_answer(path: Path) -> dict[str, Any]:
    """
    Raises:
        PluginBrokenError: it is no answer.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise PluginBrokenError("its answer is not a regular file")
            data = file.read(_MAX_ANSWER_BYTES + 1)
        if len(data) > _MAX_ANSWER_BYTES:
            raise PluginBrokenError(f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
        answer = json.loads(data, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise PluginBrokenError(f"its answer cannot be read: {error}") from error
    if not isinstance(answer, dict):
        raise PluginBrokenError(f"its answer is a {type(answer).__name__}, expected an object")
    return answer


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def typed(result: JobResult, kind: type[ResultT], job: Job) -> ResultT:
    """The answer as the type that the plugin API declares for it.

    Raises:
        PluginBrokenError: it is of another form, or a path leads out of the work folder, or to nothing.
    """
    from pydantic import TypeAdapter, ValidationError

    with _naming(f"plugin {job.plugin!r} on {job.subject!r}", result.log):
        try:
            # JSON mode: lists become tuples, and still no "1" for 1.
            value = TypeAdapter(kind).validate_json(json.dumps(result.answer), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f"{part}: " for part in (".".join(map(str, first["loc"])),) if part)
            raise PluginBrokenError(f"its answer is no {kind.__name__}: {place}{first['msg'].lower()}") from None
        value = _rooted(value, result.work)
        known = {str(path) for path in _paths_in(job.request)}
        for path in _paths_in(value):
            if str(path) not in known:
                _check_output(path, result.work)
    return value


def _rooted(value: Any, work: Path) -> Any:
    """Relative paths of an answer start from the work folder."""
    if isinstance(value, Path):
        return work / value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _rooted(item, work) for name, item in fields.items()})
    return tuple(_rooted(item, work) for item in value) if isinstance(value, tuple) else value


def _check_output(path: Path, work: Path) -> None:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise PluginBrokenError(f"it says that it wrote {path.name!r}, and there is no such file") from None
    if not real.is_relative_to(work.resolve()) or path.is_symlink():
        raise PluginBrokenError(f"it returned a file outside of its work folder: {path.name!r}")
    if path.is_file() and path.stat().st_size == 0:
        raise PluginBrokenError(f"it returned the empty file {path.name!r}")


class _Progress:
    """Passes on what a job tells of itself. A job may write what it likes; it can slow down nobody but itself."""

    def __init__(self, path: Path, report: Callable[[float | None, str], None]) -> None:
        self._path = path
        self._report = report
        self._at = 0

    def read(self) -> None:
        lines = self._new_lines()
        if not lines:
            return
        try:
            facts = json.loads(lines[-1])
            fraction, text = facts.get("fraction"), facts.get("text", "")
        except (ValueError, AttributeError, RecursionError):
            return
        good = isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1
        shown = "".join(char for char in str(text) if char.isprintable())[:200]
        self._report(float(fraction) if good else None, shown)

    def _new_lines(self) -> Sequence[bytes]:
        with suppress(OSError), self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > self._at:
                file.seek(max(self._at, size - _MAX_PROGRESS_BYTES))
                data = file.read(_MAX_PROGRESS_BYTES)
                whole = data.rpartition(b"\n")[0]
                self._at = size - (len(data) - len(whole) - 1 if whole else 0)
                return [line for line in whole.split(b"\n") if line]
        return ()


@contextmanager
def _naming(where: str, log: Path) -> Iterator[None]:
    try:
        yield
    except SdkpackError as error:
        error.where = error.where or where
        error.hint = f"{error.hint}; {_see(log)}" if error.hint else _see(log)
        raise


def _see(log: Path) -> str:
    return f"see its log: {log}"


def _tail(log: Path, start: int) -> str:
    """The last line that a job printed."""
    with log.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(start, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "".join(char for char in lines[-1] if char.isprintable())[:300] if lines else ""
