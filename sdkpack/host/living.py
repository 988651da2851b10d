"""A process that runs on beside us and answers messages: started by the launcher of all toolchains, ended with its
group.

Messages go over a pair of connected sockets (`sdkpack_job.frames`). What the process prints is kept in memory alone,
the end of it: it may say something about a model that is secret.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import PluginBrokenError, PluginError, RunError, StepError
from sdkpack.host.environments import worker_variables
from sdkpack.host.places import Place
from sdkpack.host.process import end_group, has_ended, outcome
from sdkpack.host.sandbox import Limits, Watcher, enforced_of, launcher, passed_on, write_order

__all__ = ["BlobFile", "Orders", "WorkerError", "WorkerProcess"]

_LONGEST_HEAD: Final = 64 << 20
_KEPT_BYTES: Final = 16 << 10
_LOOK_EVERY_S: Final = 0.25
_END_S: Final = 5.0
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFile:
    """A file that the process gets as an open descriptor; nothing of it is written anywhere."""

    fd: int
    size_bytes: int
    media_type: str
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """How to start one process.

    Args:
        plugin: for messages.
        place: where its class or program is.
        files: what it gets by descriptor, by role.
        readable: files that it may open beside them.
        devices: device nodes that it may use.
        scratch: whether it may write to its home and its folder for temporary files.
        network: whether it may use one.
        limits: memory, disk, processes.
    """

    plugin: str
    place: Place
    files: Mapping[str, BlobFile]
    readable: Sequence[Path]
    devices: Sequence[Path]
    scratch: bool
    network: bool
    limits: Limits


class WorkerProcess:
    """One process. Used by one thread at a time.

    After any error but one that the process itself told of, it is ended and answers no more.

    Raises:
        PluginError: it cannot be started.
    """

    def __init__(self, orders: Orders) -> None:
        self._plugin = orders.plugin
        self._folder = Path(tempfile.mkdtemp(prefix="sdkpack-"))
        self.files: dict[str, dict[str, Any]] = {}
        """Its blobs as messages name them, by role."""
        self._socket, theirs = socket.socketpair()
        self._log_fd, log_fd = os.pipe()
        self._told_fd, told_fd = os.pipe()
        try:
            keep = [theirs.fileno(), told_fd, *(file.fd for file in orders.files.values())]
            self._prepare(orders, theirs.fileno(), told_fd)
            self._process = subprocess.Popen(
                launcher(self._folder), cwd=self._folder, env={"PATH": os.defpath}, stdin=subprocess.DEVNULL,
                stdout=log_fd, stderr=log_fd, start_new_session=True, pass_fds=keep,
            )  # fmt: skip
        except BaseException as error:
            _tidy(os.getpid(), None, self._folder, self._socket, self._log_fd, self._told_fd)
            if isinstance(error, OSError):
                reason = (error.strerror or str(error)).lower()
                raise PluginError(
                    f"{orders.plugin!r} cannot be started: {reason}", hint="see: sdkpack doctor"
                ) from error
            raise
        finally:
            theirs.close()
            os.close(log_fd)
            os.close(told_fd)
        os.set_blocking(self._log_fd, False)
        self._socket.settimeout(0)
        folders = [self._folder] if orders.scratch else []
        self._watch = Watcher(orders.limits, folders, None, orders.plugin)
        self._printed = bytearray()
        self._killed = False
        self._poll = select.poll()
        self._poll.register(self._log_fd, select.POLLIN)
        # Also for one that nobody closed.
        self._finalize = weakref.finalize(
            self, _tidy, os.getpid(), self._process, self._folder, self._socket, self._log_fd, self._told_fd
        )

    @property
    def alive(self) -> bool:
        return self._finalize.alive and not has_ended(self._process)

    def ask(
        self, head: Mapping[str, Any], arrays: Mapping[str, Any] | None = None, *, limit_s: float
    ) -> tuple[Any, dict[str, Any]]:
        """Sends a message and waits for the answer.

        Args:
            head: `call` and its arguments, JSON.
            arrays: NumPy arrays by name.
            limit_s: seconds until the process is ended.

        Returns:
            The answer, JSON, and the arrays that came with it.

        Raises:
            RunError: it took too long, or crashed.
            PluginBrokenError: it answered with what is no answer.
            WorkerError: it told of an error.
        """
        from sdkpack_job import frames

        until = time.monotonic() + limit_s
        try:
            for buffer in frames.message(head, arrays or {}):
                self._write(buffer, until)
            answer, given = frames.receive(lambda buffer: self._read(buffer, until), _LONGEST_HEAD)
        except (frames.FrameError, MemoryError) as error:
            raise self._broken(f"its process answered with what is no answer: {error}") from error
        except (EOFError, ConnectionError):
            raise self._crash() from None
        except TimeoutError:
            printed = self.end()
            raise RunError(
                f"{self._plugin!r} took longer than {limit_s:g} s and its process was ended", hint=_said(printed)
            ) from None
        except StepError as error:
            self.end()
            raise RunError(f"{self._plugin!r}: {error.message}") from error
        if answer.get("ok") is True:
            return answer.get("result"), given
        told = answer.get("error")
        if answer.get("ok") is not False or not isinstance(told, dict):
            raise self._broken("its process answered with neither a result nor an error")
        raise WorkerError({str(key): str(value) for key, value in told.items()})

    @property
    def enforced(self) -> Mapping[str, str]:
        """What is enforced around it: measure -> what, or `not enforced: REASON`. To be asked once, after an answer."""
        return enforced_of(self._told_fd)

    def end(self) -> str:
        """Ends it and all that it started; may be called twice. What it printed last."""
        if self._finalize.alive:
            self._drain()
            self._finalize()
        return _tail(self._printed)

    def kill(self) -> None:
        """Ends it from another thread than the one that asks it, whose call then fails."""
        if self._finalize.alive:
            self._killed = True
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    # Inner --------------------------------------------------------------------------------------------------------
    def _prepare(self, orders: Orders, channel_fd: int, told_fd: int) -> None:
        folders = work, home, temporary = [self._folder / name for name in ("work", "home", "tmp")]
        for path in folders:
            path.mkdir(mode=0o700)
        for number, (role, file) in enumerate(orders.files.items()):
            self.files[role] = {
                "fd": file.fd, "path": self._link(number, file), "size_bytes": file.size_bytes,
                "media_type": file.media_type,
            }  # fmt: skip
        place = orders.place
        facts = {
            "job": 1,
            "plugin": orders.plugin,
            "method": "serve",
            "load": place.half.load,
            "packages": {name: str(path) for name, path in place.packages.items()},
            "work": str(work),
            "channel": channel_fd,
        }
        (self._folder / "job.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        own = [self._folder / "job.json"]
        write_order(
            self._folder, argv=place.argv(self._folder), work=work, enforced_fd=told_fd,
            environment=worker_variables(home, temporary, *place.search), limits=orders.limits,
            readable=[*place.readable, *place.readable_packages, *own, *orders.readable],
            writable=[*(folders if orders.scratch else ()), *orders.devices], network=orders.network,
        )  # fmt: skip

    def _link(self, number: int, file: BlobFile) -> str:
        """A path of the descriptor: as another process's, so it names its own. A link holds no content."""
        path = f"/proc/self/fd/{file.fd}"
        if not file.suffix:
            return path
        link = self._folder / f"{number}{file.suffix}"
        link.symlink_to(path)
        return str(link)

    def _write(self, buffer: Any, until: float) -> None:
        view = memoryview(buffer)
        at = 0
        while at < len(view):
            self._wait(select.POLLOUT, until)
            with suppress(BlockingIOError):
                at += self._socket.send(view[at : at + _PIECE_BYTES])

    def _read(self, buffer: memoryview, until: float) -> None:
        at = 0
        while at < len(buffer):
            self._wait(select.POLLIN, until)
            with suppress(BlockingIOError):
                count = self._socket.recv_into(buffer[at:])
                if not count:
                    raise EOFError
                at += count

    def _wait(self, event: int, until: float) -> None:
        """Until the socket is ready; meanwhile what the process prints is taken, so that it is never held up by it."""
        self._poll.register(self._socket, event)
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready = {fd for fd, _ in self._poll.poll(1000 * min(left, _LOOK_EVERY_S))}
            if self._log_fd in ready:
                self._drain()
            if self._socket.fileno() in ready:
                return
            if not ready:
                self._watch(self._process.pid)

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._log_fd, 1 << 16):
                self._printed += data
                del self._printed[:-_KEPT_BYTES]
            # Its end: a pipe that nobody writes to any more is always ready.
            with suppress(KeyError):
                self._poll.unregister(self._log_fd)

    def _crash(self) -> RunError:
        ended = has_ended(self._process, _END_S)
        printed = self.end()
        if self._killed:
            return RunError(f"the session was closed while {self._plugin!r} was still running")
        if not ended:
            return RunError(f"the process of {self._plugin!r} stopped answering and was ended", hint=_said(printed))
        code = passed_on(self._process.returncode)
        how = outcome(code) if code else "ended by itself"
        how += ", most likely because memory ran out" if code == -signal.SIGKILL else ""
        return RunError(f"the process of {self._plugin!r} {how}", hint=_said(printed))

    def _broken(self, text: str) -> PluginBrokenError:
        printed = self.end()
        return PluginBrokenError(f"plugin {self._plugin!r}: {text}", hint=_said(printed))


class WorkerError(Exception):
    """An error that a process told of: `type`, `code`, `message`, `hint`. The process lives on."""

    def __init__(self, told: Mapping[str, str]) -> None:
        super().__init__(told.get("message", ""))
        self.kind = told.get("type", "")
        self.code = told.get("code", "")
        self.message = told.get("message", "")
        self.hint = told.get("hint", "")


def _tidy(
    pid: int, process: subprocess.Popen[bytes] | None, folder: Path, ours: socket.socket, *descriptors: int
) -> None:
    if os.getpid() != pid:
        return  # a fork: the process belongs to the parent
    ours.close()
    for fd in descriptors:
        os.close(fd)
    if process is not None:
        end_group(process)
    shutil.rmtree(folder, ignore_errors=True)


def _tail(printed: bytearray) -> str:
    lines = printed.decode(errors="replace").strip().splitlines()
    return "".join(char for char in lines[-1] if char.isprintable())[:300] if lines else ""


def _said(printed: str) -> str:
    return f"it printed last: {printed}" if printed else ""
