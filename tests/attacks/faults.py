"""A file system that fails at a chosen operation: with an error, with a short count, or by 'dying'."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import Any

from sdkpack.bundle.files import FileSystem

MUTATING = ("open", "write", "copy_range", "fsync", "lock", "make_folder", "rename", "link", "unlink", "open_folder")
READING = ("pread", "names", "stat", "stat_name")


class Crash(BaseException):
    """The process is gone: nothing that runs after it touches the file system."""


@dataclass
class FaultyFiles(FileSystem):
    """Counts operations and makes the `fail_at`-th fail; -1 never.

    Args:
        fail_at: which operation.
        fault: an errno, `crash` (nothing happens after it) or `short` (it does half of what it was asked).
        torn: at a crash, the bytes of files that were not fsynced are lost, as after a power failure.
    """

    fail_at: int = -1
    fault: str = "EIO"
    torn: bool = False
    log: list[str] = field(default_factory=list)
    dead: bool = False
    unsynced: dict[int, str] = field(default_factory=dict)

    def _step(self, name: str, what: object = "") -> bool:
        """Returns whether this operation is to fall short; raises where it is to fail."""
        if self.dead:
            raise Crash
        self.log.append(f"{name} {what}".strip())
        if len(self.log) - 1 != self.fail_at:
            return False
        if self.fault == "crash":
            self.dead = True
            self._lose_unsynced()
            raise Crash
        if self.fault == "short":
            return True
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))

    def _lose_unsynced(self) -> None:
        for fd in self.unsynced if self.torn else ():
            os.ftruncate(fd, 0)

    def open_folder(self, path: Any, **options: Any) -> int:
        self._step("open_folder", path)
        return super().open_folder(path, **options)

    def open(self, name: Any, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        self._step("open", name)
        return super().open(name, flags, mode, dir_fd=dir_fd)

    def pread(self, fd: int, buffer: Any, offset: int) -> int:
        short = self._step("pread")
        view = memoryview(buffer).cast("B")
        return super().pread(fd, view[: max(1, len(view) // 2)] if short else view, offset)

    def write(self, fd: int, data: Any) -> int:
        short = self._step("write")
        self.unsynced[fd] = "written"
        view = memoryview(data).cast("B")
        return super().write(fd, view[: max(1, len(view) // 2)] if short else view)

    def copy_range(self, source: int, target: int, offset: int, size: int) -> int:
        short = self._step("copy_range")
        self.unsynced[target] = "copied"
        return super().copy_range(source, target, offset, max(1, size // 2) if short else size)

    def fsync(self, fd: int) -> None:
        self._step("fsync", "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        super().fsync(fd)
        self.unsynced.pop(fd, None)

    def close(self, fd: int) -> None:
        self.unsynced.pop(fd, None)
        super().close(fd)  # the kernel closes files of the dead too

    def lock(self, fd: int) -> bool:
        self._step("lock")
        return super().lock(fd)

    def make_folder(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        self._step("make_folder", name)
        super().make_folder(name, mode, dir_fd=dir_fd)

    def rename(self, old: str, new: str, *, dir_fd: int) -> None:
        self._step("rename", new)
        super().rename(old, new, dir_fd=dir_fd)

    def link(self, old: str, new: str, *, dir_fd: int) -> None:
        self._step("link", new)
        super().link(old, new, dir_fd=dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self._step("unlink", name)
        super().unlink(name, dir_fd=dir_fd)

    def names(self, fd: int) -> list[str]:
        self._step("names")
        return super().names(fd)
