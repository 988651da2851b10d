"""The port to the file system, and the one way a file appears: whole, durable, or not at all.

Everything that the bundle layer, the build store and unpacking ask of the file system goes through `FileSystem`, so
that tests can let any single operation crash, fail or fall short.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from sdkpack.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.utils import Buffer

__all__ = ["AtomicFile", "FileSystem", "atomic_file", "atomic_file_in", "clean_leftovers"]

_TEMPORARY: Final = re.compile(r"\.sdkpack-[0-9a-f]{16}\.part")
_ATTEMPTS: Final = 8


class FileSystem:
    """The real file system. Names are looked up beneath an open folder, never by a path that may change meanwhile."""

    def open_folder(self, path: str | Path, *, dir_fd: int | None = None, follow: bool = True) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        return os.open(path, flags, dir_fd=dir_fd)

    def open(self, name: str | Path, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def pread(self, fd: int, buffer: Buffer, offset: int) -> int:
        return os.preadv(fd, [buffer], offset)

    def write(self, fd: int, data: Buffer) -> int:
        return os.write(fd, data)

    def copy_range(self, source: int, target: int, offset: int, size: int) -> int:
        """Lets the kernel append bytes of `source` to `target`, as shared extents where the file system has them."""
        return os.copy_file_range(source, target, size, offset_src=offset)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def lock(self, fd: int) -> bool:
        """Takes the exclusive lock, which the kernel frees when its owner dies; False where another holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def stat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat_name(self, name: str, *, dir_fd: int) -> os.stat_result | None:
        """Looks at a name without following it; None where it does not exist."""
        try:
            return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self, fd: int) -> list[str]:
        return os.listdir(fd)

    def make_folder(self, name: str, mode: int = 0o777, *, dir_fd: int) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)

    def rename(self, old: str, new: str, *, dir_fd: int) -> None:
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def link(self, old: str, new: str, *, dir_fd: int) -> None:
        os.link(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)


class AtomicFile:
    """A file being written under a temporary name; it takes its own name only when it is whole."""

    def __init__(self, files: FileSystem, folder: int, name: str, mode: int) -> None:
        self._files = files
        self._folder = folder
        self._name = name
        self._temporary, self.fd = _create(files, folder, mode)
        self.size_bytes = 0

    def write(self, data: Buffer) -> int:
        """Writes all of `data`, however many calls that takes, and returns its length."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            written = self._files.write(self.fd, view[done:])
            if written <= 0:
                raise OSError(errno.EIO, "the file system took no bytes")
            done += written
        self.size_bytes += done
        return done

    def copy_from(self, source: int, offset: int, size: int) -> int:
        """Appends bytes of another open file without carrying them through this process; may do less than asked."""
        done = self._files.copy_range(source, self.fd, offset, size)
        self.size_bytes += done
        return done

    def commit(self, *, overwrite: bool) -> None:
        """fsync, rename, fsync of the folder: after a crash the old or the new file is there, whole."""
        self._files.fsync(self.fd)
        if overwrite:
            self._files.rename(self._temporary, self._name, dir_fd=self._folder)
        else:
            self._name_once()
        self._files.fsync(self._folder)

    def _name_once(self) -> None:
        try:
            # A hard link fails where the name is taken: of several writers, one wins.
            self._files.link(self._temporary, self._name, dir_fd=self._folder)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if self._files.stat_name(self._name, dir_fd=self._folder) is not None:  # no hard links here
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._name) from None
            self._files.rename(self._temporary, self._name, dir_fd=self._folder)
        else:
            self._files.unlink(self._temporary, dir_fd=self._folder)

    def discard(self) -> None:
        with suppress(OSError):
            self._files.unlink(self._temporary, dir_fd=self._folder)

    def close(self) -> None:
        self._files.close(self.fd)


def _create(files: FileSystem, folder: int, mode: int) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        name = f".sdkpack-{secrets.token_hex(8)}.part"
        fd = files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
        try:
            # Another run may have taken the new file for a left-over between its creation and its lock.
            if _hold(files, fd) and files.stat_name(name, dir_fd=folder) is not None:
                return name, fd
        except OSError:
            with suppress(OSError):
                files.unlink(name, dir_fd=folder)
            files.close(fd)
            raise
        files.close(fd)
    raise OSError(errno.EBUSY, "other processes keep removing the temporary file")


def _hold(files: FileSystem, fd: int) -> bool:
    """Locks a new file. Where the file system has no locks, no other run can take it for a left-over either."""
    try:
        return files.lock(fd)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return True


def clean_leftovers(folder: int, files: FileSystem) -> None:
    """Removes temporary files of killed runs: those whose lock is free. Running writers keep theirs."""
    for name in files.names(folder):
        if not _TEMPORARY.fullmatch(name):
            continue
        with suppress(OSError):
            fd = files.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            try:
                if stat.S_ISREG(files.stat(fd).st_mode) and files.lock(fd):
                    files.unlink(name, dir_fd=folder)
            finally:
                files.close(fd)


@contextmanager
def atomic_file_in(
    folder: int, name: str, *, overwrite: bool, mode: int = 0o666, files: FileSystem
) -> Iterator[AtomicFile]:
    """Writes `name` in an open folder; on any error, and on KeyboardInterrupt, nothing of it stays.

    Raises:
        FileExistsError: the name is taken and `overwrite` is false.
        OSError: as the file system says.
    """
    out = AtomicFile(files, folder, name, mode)
    try:
        yield out
        out.commit(overwrite=overwrite)
    except BaseException:
        out.discard()
        raise
    finally:
        out.close()


@contextmanager
def atomic_file(
    target: Path, *, overwrite: bool = False, mode: int = 0o666, files: FileSystem | None = None
) -> Iterator[AtomicFile]:
    """Writes a file that appears under its name only when whole and on disk.

    Args:
        target: where it shall appear; its folder must exist.
        overwrite: replaces an existing regular file; else an existing name is an error.
        mode: permissions before the umask.
        files: the file system.

    Raises:
        OutputError: the target exists, is no regular file, or the file system refuses (full, read-only, no folder).
    """
    files = files or FileSystem()
    try:
        folder = files.open_folder(target.parent)
        try:
            _check_target(files, folder, target, overwrite=overwrite)
            clean_leftovers(folder, files)
            with atomic_file_in(folder, target.name, overwrite=overwrite, mode=mode, files=files) as out:
                yield out
        finally:
            files.close(folder)
    except OSError as error:
        raise output_error(error, target) from error


def _check_target(files: FileSystem, folder: int, target: Path, *, overwrite: bool) -> None:
    there = files.stat_name(target.name, dir_fd=folder)
    if there is None:
        return
    # Renaming over a device or a pipe would replace it: as root, /dev/null would become a file.
    if not stat.S_ISREG(there.st_mode) and not stat.S_ISLNK(there.st_mode):
        raise OutputError(f"cannot write '{target}': it exists and is no regular file")
    if not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def output_error(error: OSError, target: Path) -> OutputError:
    """Says a file system's refusal in the user's words."""
    hints = {
        errno.EEXIST: "choose another name, or allow overwriting (--force)",
        errno.ENOENT: "create the folder first",
        errno.ENOSPC: "free some space, or write to another disk",
        errno.EDQUOT: "free some space, or write to another disk",
        errno.EACCES: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that you may write to",
        errno.EFBIG: "raise the file size limit (ulimit -f)",
    }
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return OutputError(f"cannot write '{target}': {reason}", hint=hints.get(error.errno or 0, ""))
