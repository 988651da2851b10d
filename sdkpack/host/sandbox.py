"""Runs a program with as little of the machine as this kernel allows, and says what that was.

The launcher (`sdkpack_job/launch.py`) is a process of its own between us and the program: limits that are set between
fork and exec of a process with threads can hang it, and a program in any language needs no part of Python.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from sdkpack.errors import InternalError, StepError
from sdkpack.host.process import supervise

__all__ = [
    "ORDERS",
    "DiskLimitError",
    "Limits",
    "ProcessLimitError",
    "Sandboxed",
    "Watcher",
    "enforced_of",
    "job_package",
    "launcher",
    "passed_on",
    "run_sandboxed",
    "system_paths",
    "write_order",
]

ORDERS: Final = "launch.orders"
"""The file that tells the launcher what to do."""

_GIB: Final = 1 << 30
_WATCH_EVERY_S: Final = 0.2
_READABLE: Final = (
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/alternatives", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types",
    "/etc/fonts", "/proc", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/random",
)  # fmt: skip
"""What programs read to run at all: libraries, the processor's description. Nobody's home is among it."""
_WRITABLE: Final = ("/dev/null", "/dev/zero", "/dev/full")
_FOR_NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")


class DiskLimitError(StepError):
    """A program wrote more than it may."""


class ProcessLimitError(StepError):
    """A program started more processes than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use."""

    memory_bytes: int
    """Address space of each of its processes."""
    disk_bytes: int = 16 * _GIB
    """Each file, and all files together."""
    processes: int = 256
    open_files: int = 4096
    time_s: float = 600.0

    @staticmethod
    def default(*, memory_bytes: int = 0, disk_bytes: int = 0, time_s: float = 600.0) -> Limits:
        """Half of the machine's memory, at least 2 GiB, unless stated; numeric libraries reserve much more than they
        use."""
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Limits(
            memory_bytes=memory_bytes or max(machine // 2, 2 * _GIB),
            disk_bytes=disk_bytes or 16 * _GIB,
            time_s=time_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandboxed:
    """How a program ended."""

    code: int
    """Its exit code, negative for a signal."""
    enforced: Mapping[str, str] = field(default_factory=dict)
    """Measure -> what was done, or `not enforced: REASON`."""


def job_package() -> Path:
    """The folder of `sdkpack_job`, which is never imported into this process's work."""
    import sdkpack_job

    return Path(sdkpack_job.__file__).parent


def system_paths(network: bool) -> tuple[str, ...]:
    return (*_READABLE, *(_FOR_NETWORK if network else ()))


def run_sandboxed(
    argv: Sequence[str],
    *,
    folder: Path,
    work: Path,
    output: IO[bytes],
    environment: Mapping[str, str],
    readable: Sequence[Path],
    writable: Sequence[Path],
    limits: Limits,
    network: bool,
    cancelled: Callable[[], bool],
    where: str,
    watch: Callable[[], None] = lambda: None,
) -> Sandboxed:
    """Runs `argv` in `work`.

    Args:
        argv: the program, by its path, and its arguments.
        folder: of the job: the launcher's orders are written there. The program cannot write to it.
        work: the program's current folder.
        output: gets what it prints.
        environment: all of its variables.
        readable: what it may read beside the system's libraries.
        writable: what it may write to, `work` among it.
        limits: memory, disk, time.
        network: whether it may use one.
        cancelled: asked several times a second.
        where: the step or plugin, for messages.
        watch: called now and then.

    Raises:
        StepError: it took too long, wrote too much, or cannot be started.
        InterruptedRunError: `cancelled` became true.
    """
    read_fd, write_fd = os.pipe()
    try:
        write_order(
            folder, argv=argv, environment=environment, work=work, readable=readable, writable=writable,
            limits=limits, network=network, enforced_fd=write_fd, cpu_s=int(limits.time_s * (os.cpu_count() or 1)),
        )  # fmt: skip
        watcher = Watcher(limits, [*writable, folder], output, where, watch)
        code = supervise(
            launcher(folder),
            folder=folder, output=output, environment={"PATH": os.defpath}, timeout_s=limits.time_s,
            cancelled=cancelled, where=where, watch=watcher, keep_open=(write_fd,),
        )  # fmt: skip
        os.close(write_fd)
        write_fd = -1
        told = enforced_of(read_fd)
        watcher.look()
        return Sandboxed(code=passed_on(code), enforced=told)
    finally:
        os.close(read_fd)
        if write_fd >= 0:
            os.close(write_fd)


def write_order(
    folder: Path,
    *,
    argv: Sequence[str],
    environment: Mapping[str, str],
    work: Path,
    readable: Sequence[Path],
    writable: Sequence[Path],
    limits: Limits,
    network: bool,
    enforced_fd: int,
    cpu_s: int | None = None,
) -> None:
    """Tells the launcher what to start and around it what to put up; `run_sandboxed` says what the arguments are.

    Args:
        enforced_fd: where the launcher writes what it enforced, before the program begins.
        cpu_s: processor time of each process; None: without a limit.
    """
    numbers = {
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "open_files": limits.open_files,
        "processes": limits.processes,
    }
    if cpu_s is not None:
        numbers["cpu_s"] = max(1, cpu_s)
    orders = {
        "argv": argv,
        "environment": [f"{name}={value}" for name, value in environment.items()],
        "work": [str(work)],
        "readable": [*system_paths(network), *map(str, readable)],
        "writable": [*_WRITABLE, *map(str, writable)],
        "network": ["1" if network else "0"],
        "enforced_fd": [str(enforced_fd)],
        "limits": [f"{name}={value}" for name, value in numbers.items()],
    }
    (folder / ORDERS).write_bytes(b"".join(_words(name, items) for name, items in orders.items()))


def _words(name: str, items: Sequence[str]) -> bytes:
    """As `sdkpack_job/launch.py` reads them. No word can hold a NUL: the kernel would not take it either."""
    if any("\0" in item for item in items):
        raise StepError(f"a word of {name!r} holds a NUL, which no program can be given")
    return b"".join(os.fsencode(word) + b"\0" for word in (name, str(len(items)), *items))


def launcher(folder: Path) -> list[str]:
    # Without `site`: nothing that is installed runs before the limits stand.
    return [sys.executable, "-I", "-S", "-B", str(job_package() / "launch.py"), str(folder)]


def passed_on(code: int) -> int:
    """The program's exit code, negative for a signal, of the launcher's, which passes a signal on as shells do."""
    return 128 - code if 128 < code <= 192 else code


def enforced_of(fd: int) -> dict[str, str]:
    """What the launcher wrote; the pipe holds it all, so that it was never blocked by us."""
    os.set_blocking(fd, False)
    try:
        text = os.read(fd, 1 << 16)
    except BlockingIOError:
        text = b""
    if not text:
        raise InternalError("the launcher of toolchains ended before it started one", hint="see: sdkpack doctor")
    words = os.fsdecode(text).split("\0")[:-1]
    return dict(zip(words[::2], words[1::2], strict=True))


@dataclass(slots=True)
class Watcher:
    """Looks at what no limit of the kernel covers: all files together, and the number of processes of root."""

    limits: Limits
    folders: Sequence[Path]
    output: IO[bytes] | None
    where: str
    also: Callable[[], None] = lambda: None
    _next: float = 0.0

    def __call__(self, pid: int) -> None:
        """
        Raises:
            DiskLimitError, ProcessLimitError: it took too much.
        """
        self.also()
        if time.monotonic() < self._next:
            return
        begin = time.monotonic()
        self.look()
        count = _children(pid)
        if count > self.limits.processes:
            raise ProcessLimitError(f"it started more than {self.limits.processes} processes", where=self.where)
        # A tenth of the time at most, however many files there are.
        self._next = time.monotonic() + max(_WATCH_EVERY_S, 10 * (time.monotonic() - begin))

    def look(self) -> None:
        printed = 0 if self.output is None else os.fstat(self.output.fileno()).st_size
        used = printed + _size(self.folders)
        if used > self.limits.disk_bytes:
            raise DiskLimitError(f"it wrote more than {self.limits.disk_bytes} bytes", where=self.where)


def _size(paths: Sequence[Path]) -> int:
    """Bytes on the disk, each file once."""
    seen: dict[tuple[int, int], int] = {}
    stack = [str(path) for path in paths]
    while stack:
        path = stack.pop()
        with suppress(OSError):
            status = os.lstat(path)
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
            with os.scandir(path) as entries:
                stack += [entry.path for entry in entries]
    return sum(seen.values())


def _children(pid: int) -> int:
    """How many processes stand below `pid`."""
    parents: dict[int, list[int]] = {}
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        with suppress(OSError, ValueError, IndexError):
            text = Path("/proc", name, "stat").read_text()
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(name))
    count, stack = 0, [pid]
    while stack:
        below = parents.get(stack.pop(), [])
        count += len(below)
        stack += below
    return count
