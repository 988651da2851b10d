"""The runner half of a runtime in processes of its own, as the Protocol that it implements in this one.

Each opened part has one process, kept until it is closed. What makes it end before (a crash, a hang, an answer that is
none) is an error of that call; the next call starts another one, so a session stays usable.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sdkpack.errors import InputError, PluginBrokenError, RunError, SdkpackError
from sdkpack.host.environments import Environments
from sdkpack.host.living import BlobFile, Orders, WorkerError, WorkerProcess
from sdkpack.host.places import Place
from sdkpack.host.sandbox import Limits
from sdkpack.plugin.runtime import Blob, DeviceInfo, Fit, OpenRequest

__all__ = ["RemoteRunner", "RemoteSession"]

ResultT = TypeVar("ResultT")

_log = logging.getLogger("sdkpack.host")

_ASK_LIMIT_S: Final = 60.0
_CLOSE_LIMIT_S: Final = 10.0
_BUSY_S: Final = 1.0
_ERRORS: Final[Mapping[str, type[SdkpackError]]] = {"E702": RunError, "E701": InputError}
_NO_DEVICES: Final = frozenset(
    {"shm", "pts", "mqueue", "hugepages", "input", "block", "disk", "mapper", "fd", "snd", "char", "cpu", "vfio", "net"}
)
"""Folders of /dev that no accelerator is in: other programs' memory, terminals, keyboards, disks."""
_NO_NODES: Final = ("tty", "vcs", "console", "ptmx", "mem", "kmem", "port", "uinput", "uhid", "kmsg", "rtc", "hpet",
                    "watchdog", "loop-control", "fuse", "kvm", "vhost", "hidraw", "snapshot")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRunner:
    """A `sdkpack.plugin.Runner` outside of this process. Safe for several threads."""

    name: str
    place: Place
    environments: Environments
    time_limit_s: float
    """Of each call."""
    network: bool = False

    def devices(self) -> Sequence[DeviceInfo]:
        return self._ask({"call": "devices"}, tuple[DeviceInfo, ...])

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        return self._ask({"call": "check", "needs": _encoded(needs), "token": token}, Fit)

    def open(self, request: OpenRequest) -> RemoteSession:
        """Starts a process that loads the part.

        Raises:
            RunError: the library refused it, crashed, or took too long.
            PluginBrokenError: its class cannot be loaded, or its answer is none.
        """
        session = RemoteSession(self, request)
        session.start()
        return session

    def started(self, files: Mapping[str, BlobFile], readable: Sequence[Path], *, scratch: bool) -> WorkerProcess:
        half = self.place.half
        limits = Limits.default(memory_bytes=half.memory_limit_bytes, disk_bytes=half.disk_limit_bytes)
        if not scratch:
            # The second wall, where the kernel has no Landlock: no file takes a byte.
            limits = dataclasses.replace(limits, disk_bytes=0)
        return WorkerProcess(
            Orders(plugin=self.name, place=self.place, files=files, readable=readable, devices=tuple(_devices()),
                   scratch=scratch, network=self.network, limits=limits)
        )  # fmt: skip

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keeps its environment from being removed."""
        if self.place.environment is None:
            yield
            return
        with self.environments.using(self.place.environment):
            yield

    def _ask(self, head: Mapping[str, Any], kind: type[ResultT]) -> ResultT:
        from pydantic import TypeAdapter, ValidationError

        with self.using():
            worker = self.started({}, (), scratch=True)
            try:
                result, _ = asked(worker, self.name, head, limit_s=min(_ASK_LIMIT_S, self.time_limit_s))
            finally:
                worker.end()
        try:
            return TypeAdapter(kind).validate_json(json.dumps(result), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise PluginBrokenError(
                f"plugin {self.name!r}: its answer to {head['call']!r} is not as the plugin API says: {first['msg']}"
            ) from None


class RemoteSession:
    """A `sdkpack.plugin.RunnerSession` in a process of its own. Calls are made one after another."""

    def __init__(self, runner: RemoteRunner, request: OpenRequest) -> None:
        self._runner = runner
        self._request = request
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self._hold: Any = None
        self._closed = False
        self.enforced: Mapping[str, str] = {}
        """What is enforced around its process: measure -> what, or `not enforced: REASON`."""

    def start(self) -> None:
        """Starts its process and loads the part there."""
        with self._lock:
            self._started()

    def run(self, inputs: Mapping[str, Any], *, limit_s: float | None = None) -> Mapping[str, Any]:
        """Computes the outputs; starts a process where the last one was ended.

        Args:
            inputs: NumPy arrays.
            limit_s: ends the process after that many seconds; None: the descriptor's `time_limit_s`.

        Raises:
            RunError: the library failed or crashed, took too long, or the session is closed.
            PluginBrokenError: its answer is none.
        """
        limit = self._runner.time_limit_s if limit_s is None else min(limit_s, self._runner.time_limit_s)
        with self._lock:
            if self._closed:
                raise RunError("the session is closed", hint="open it again")
            worker = self._started()
            _, outputs = asked(worker, self._runner.name, {"call": "run"}, inputs, limit_s=limit)
            return outputs

    def close(self) -> None:
        """Lets it tidy up, then ends its process group; may be called twice, and from any thread.

        A call that nobody waits for any more, after ^C, is ended with its process.
        """
        self._closed = True
        if not self._lock.acquire(timeout=_BUSY_S):
            if (worker := self._worker) is not None:
                worker.kill()
            self._lock.acquire()
        try:
            self._close()
        finally:
            self._lock.release()

    def _close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            if worker.alive:
                # It is ended in any case; how is of no matter to who closes.
                with suppress(SdkpackError, WorkerError):
                    worker.ask({"call": "close"}, limit_s=_CLOSE_LIMIT_S)
            worker.end()
        if self._hold is not None:
            hold, self._hold = self._hold, None
            hold.__exit__(None, None, None)

    def _started(self) -> WorkerProcess:
        if self._worker is not None and self._worker.alive:
            return self._worker
        if self._worker is not None:
            printed = self._worker.end()
            _log.warning(
                "the process of %s had ended and is started anew%s", self._runner.name, printed and f": {printed}"
            )
        if self._hold is None:
            self._hold = self._runner.using()
            self._hold.__enter__()
        files, readable = _opened(self._request.files)
        try:
            worker = self._runner.started(files, readable, scratch=not self._request.encrypted)
        finally:
            for file in files.values():
                os.close(file.fd)
        self._worker = worker
        request = dataclasses.replace(self._request, files={}, cache=None)
        head = {"call": "open", "request": _encoded(request), "files": worker.files}
        try:
            asked(worker, self._runner.name, head, limit_s=self._runner.time_limit_s)
        except BaseException:
            self._worker = None
            worker.end()
            raise
        self.enforced = worker.enforced
        return worker


def asked(
    worker: WorkerProcess,
    plugin: str,
    head: Mapping[str, Any],
    arrays: Mapping[str, Any] | None = None,
    *,
    limit_s: float,
) -> tuple[Any, dict[str, Any]]:
    """Asks, and turns an error that the process told of into one of ours.

    Raises:
        RunError: it failed, crashed or took too long.
        InputError: it says that an input is wrong.
        PluginBrokenError: it lacks something, or its answer is none.
    """
    try:
        return worker.ask(head, arrays, limit_s=limit_s)
    except WorkerError as error:
        if error.code in _ERRORS:
            raise _ERRORS[error.code](error.message, hint=error.hint) from None
        told = f"{error.kind}: {error.message}"
        if error.kind in ("ImportError", "ModuleNotFoundError", "AttributeError") and head["call"] != "run":
            raise PluginBrokenError(
                f"plugin {plugin!r} cannot be loaded in its environment: {told}",
                hint="it needs what its environment does not hold",
            ) from None
        raise RunError(f"{plugin!r} failed: {told}") from None
    except KeyboardInterrupt:
        # Half of a message may be on its way: nothing that comes after it could be read.
        worker.end()
        raise


def _encoded(value: Any) -> Any:
    from sdkpack_job.codec import encode

    return encode(value)


def _opened(blobs: Mapping[str, Blob]) -> tuple[dict[str, BlobFile], list[Path]]:
    """Descriptors of blobs: of sealed memory files, or of files that are on a disk in plain form anyway."""
    files: dict[str, BlobFile] = {}
    readable: list[Path] = []
    try:
        for role, blob in blobs.items():
            path = blob.path()
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            files[role] = BlobFile(
                fd=fd, size_bytes=blob.size_bytes, media_type=blob.media_type, suffix="".join(path.suffixes[-1:])
            )
            real = Path(f"/proc/self/fd/{fd}").readlink()
            if not str(real).startswith("/memfd:"):
                readable.append(real)
    except BaseException as error:
        for file in files.values():
            os.close(file.fd)
        if isinstance(error, OSError):
            raise RunError(f"a file of the model cannot be opened: {(error.strerror or str(error)).lower()}") from error
        raise
    return files, readable


def _devices() -> Iterator[Path]:
    """Character devices that the user may open, without terminals, keyboards and memory."""
    with suppress(OSError), os.scandir("/dev") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NO_DEVICES:
                    yield Path(entry.path)
            elif not entry.name.startswith(_NO_NODES) and stat.S_ISCHR(entry.stat(follow_symlinks=False).st_mode):
                yield Path(entry.path)
