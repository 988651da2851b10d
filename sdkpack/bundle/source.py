"""Where a bundle's bytes are read from: an open file, or memory."""

from __future__ import annotations

import io
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from sdkpack.bundle.files import FileSystem
from sdkpack.errors import FileError, PayloadError

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = ["ByteSource", "FileSource", "MemorySource", "open_source"]


class ByteSource(Protocol):
    """Random access to an unchanging run of bytes, from any thread."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def path(self) -> Path | None: ...

    def read_into(self, offset: int, buffer: Buffer) -> None:
        """Fills the buffer from `offset`; a file that turns out shorter is an error."""
        ...

    def close(self) -> None: ...


class MemorySource:
    """A bundle that is already in memory."""

    path = None

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B")

    @property
    def size_bytes(self) -> int:
        return len(self._view)

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        if offset + len(view) > len(self._view):
            raise PayloadError("the bundle is shorter than it says")
        view[:] = self._view[offset : offset + len(view)]

    def close(self) -> None:
        """Memory needs no closing."""


class FileSource:
    """An open file, read with pread: no shared position, and no mapping that would count as resident memory."""

    def __init__(self, fd: int, path: Path | None, files: FileSystem) -> None:
        self._fd = fd
        self._files = files
        self.path = path
        self._close = weakref.finalize(self, files.close, fd)
        facts = files.stat(fd)
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise FileError(f"'{path}' is no regular file" if path else "a bundle can only be read from a regular file")
        self.size_bytes = facts.st_size

    @property
    def fd(self) -> int:
        return self._fd

    def read_into(self, offset: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                count = self._files.pread(self._fd, view[done:], offset + done)
            except OSError as error:
                raise FileError(f"cannot read '{self.path or 'the bundle'}': {_why(error)}") from error
            if count == 0:
                raise PayloadError("the file became shorter while it was read")
            done += count

    def close(self) -> None:
        self._close()


def _why(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def open_source(file: str | Path | BinaryIO | bytes | ByteSource | Any, files: FileSystem | None = None) -> ByteSource:
    """Opens a bundle for reading: a path, an open file (its descriptor is duplicated), or bytes."""
    files = files or FileSystem()
    if isinstance(file, (bytes, bytearray, memoryview)):
        return MemorySource(file)
    if isinstance(file, (str, Path)):
        try:
            # O_NONBLOCK: opening a pipe must not wait for its writer.
            return FileSource(files.open(file, os.O_RDONLY | os.O_NONBLOCK), Path(file), files)
        except OSError as error:
            raise FileError(f"cannot open '{file}': {_why(error)}", hint="check the path") from error
    if not isinstance(file, io.IOBase):
        source: ByteSource = file  # type: ignore[assignment]
        return source
    try:
        fd = file.fileno()
    except OSError:  # a file in memory
        return MemorySource(file.read())
    return FileSource(os.dup(fd), None, files)


def read(source: ByteSource, offset: int, size: int) -> bytes:
    """Returns a small part as bytes."""
    buffer = bytearray(size)
    source.read_into(offset, buffer)
    return bytes(buffer)
