"""Folders that running steps work in, and that nobody has to clean up by hand.

A folder is made beside a lock file that its process holds locked. The kernel frees the lock when the process ends,
however it ends, so the next one can tell the folders of the dead from those of the living.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sdkpack.bundle.files import FileSystem, output_error
from sdkpack.errors import OutputError

__all__ = ["Workspaces"]

_LOCK: Final = ".lock"
_ATTEMPTS: Final = 8


class Workspaces:
    """The work folders of one process, below `folder`; made at first use. Thread-safe."""

    def __init__(self, folder: Path, files: FileSystem) -> None:
        self.folder = folder
        self._fs = files
        self._mutex = threading.Lock()
        self._lock_fd = -1
        self._own: Path | None = None
        self._count = 0

    @contextmanager
    def work(self, name: str) -> Iterator[Path]:
        """An empty folder of mode 0700, removed with all that is in it.

        Args:
            name: for people who look into the folder; only its plain characters are used.

        Raises:
            OutputError: the file system refuses.
        """
        plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in name)[:80]
        try:
            with self._mutex:
                self._own = own = self._own or self._begin()
                self._count += 1
                path = own / f"{self._count}-{plain}"
            path.mkdir(mode=0o700)
        except OSError as error:
            raise output_error(error, self.folder) from error
        try:
            yield path
        finally:
            _remove(path)

    def close(self) -> None:
        """Removes this process's folder; may be called again."""
        with self._mutex:
            if self._own is None:
                return
            _remove(self._own)
            with suppress(OSError):
                _lock_of(self._own).unlink()
            os.close(self._lock_fd)
            self._own, self._lock_fd = None, -1

    def clean_leftovers(self) -> None:
        """Removes the folders of processes that have ended."""
        for lock in sorted(self.folder.glob(f"*{_LOCK}")):
            with suppress(OSError):
                fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd):
                        _remove(lock.with_suffix(""))
                        lock.unlink()
                finally:
                    os.close(fd)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds every other process off from beginning to work.

        Raises:
            OutputError: one is working already.
        """
        gate = self._gate(fcntl.LOCK_EX)
        try:
            self.clean_leftovers()
            others = [
                lock for lock in self.folder.glob(f"*{_LOCK}") if self._own is None or lock != _lock_of(self._own)
            ]
            if others:
                raise OutputError(
                    "another sdkpack builds with this store",
                    where=str(self.folder.parent),
                    hint="wait until it is done",
                )
            yield
        finally:
            os.close(gate)

    def _gate(self, kind: int) -> int:
        fd = os.open(self.folder / "gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, kind)
        return fd

    def _begin(self) -> Path:
        gate = self._gate(fcntl.LOCK_SH)
        try:
            for _ in range(_ATTEMPTS):
                own = self.folder / secrets.token_hex(8)
                fd = os.open(_lock_of(own), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                # Between creation and lock another process may have taken it for a left-over.
                if _lock(fd) and _lock_of(own).exists():
                    own.mkdir(mode=0o700)
                    self._lock_fd = fd
                    return own
                os.close(fd)
        finally:
            os.close(gate)
        raise OutputError("other processes keep removing the work folder", where=str(self.folder))


def _lock_of(own: Path) -> Path:
    return own.with_suffix(_LOCK)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    """Removes a folder, also where a tool left folders in it that nobody may write to."""

    def make_writable(_: object, name: str, __: object) -> None:
        with suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
            shutil.rmtree(name, ignore_errors=True) if Path(name).is_dir() else Path(name).unlink()

    shutil.rmtree(path, onerror=make_writable)
