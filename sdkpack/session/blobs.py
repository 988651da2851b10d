"""Files of a bundle as a runner gets them: in memory, as a range of the bundle file, or behind a path.

Plaintext of an encrypted bundle lives in anonymous memory or in a sealed memory file, never on a disk. Private
anonymous memory with huge pages is what decides the speed of loading: 8 GB/s of decryption into it, against 1.1 GB/s
into Python bytes that are joined.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from sdkpack.bundle.memory import load_buffer
from sdkpack.errors import BundleError, FileError, RunError, UsageError

__all__ = ["BlobSource", "BundleBlob", "FileBlob", "LoadableBlob"]

_READ_BYTES: Final = 8 << 20


class BlobInfo(Protocol):
    """What a bundle's index says of a file."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def media_type(self) -> str: ...


class BlobSource(Protocol):
    """What a blob needs of a verified bundle."""

    @property
    def files(self) -> Mapping[str, BlobInfo]: ...

    def read_into(self, path: str, buffer: memoryview, /) -> None:
        """Fills `buffer`, which is exactly as long as the file, with checked plaintext."""
        ...

    def plain_range(self, path: str, /) -> tuple[Path, int, int] | None: ...


class LoadableBlob(ABC):
    """The common part of all blobs: memory and memory files made at first use, freed by `close`. Thread-safe."""

    def __init__(self, *, name: str, size_bytes: int, media_type: str) -> None:
        self._name = name
        self._size_bytes = size_bytes
        self._media_type = media_type
        self._lock = threading.Lock()
        self._memory: memoryview | None = None
        self._file: _MemoryFile | None = None
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def media_type(self) -> str:
        return self._media_type

    def memory(self) -> memoryview:
        """The content in writable memory, aligned to 4096 bytes; the same view at each call, until `close`."""
        with self._lock:
            self._check_open()
            if self._memory is None:
                view = load_buffer(self._size_bytes)
                self._fill(view)
                self._memory = view
            return self._memory

    def file_range(self) -> tuple[Path, int, int] | None:
        """Where the content lies in plain form on a disk: file, offset and length in bytes."""
        return None

    def path(self) -> Path:
        """A path for libraries that take nothing else: a sealed memory file that keeps the name's suffix."""
        with self._lock:
            self._check_open()
            if self._file is None:
                self._file = _MemoryFile(self._name, self._size_bytes, self._fill_from_memory_or_source)
            return self._file.path

    def release(self) -> None:
        """Frees the memory, for a runtime that has copied what it needs; another `memory` call loads it again."""
        with self._lock:
            self._memory = None

    def close(self) -> None:
        """Frees memory and memory file; may be called twice.

        Memory that a runtime still points to is freed with the last such pointer.
        """
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
            self._memory = None

    @abstractmethod
    def _fill(self, buffer: memoryview) -> None:
        """Puts the content, checked, into `buffer`."""

    def _fill_from_memory_or_source(self, buffer: memoryview) -> None:
        if self._memory is not None:
            buffer[:] = self._memory
        else:
            self._fill(buffer)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self._name!r} belongs to a session that is closed")


class BundleBlob(LoadableBlob):
    """A file of a verified bundle."""

    def __init__(self, source: BlobSource, path: str) -> None:
        info = source.files.get(path)
        if info is None:
            raise BundleError(f"the manifest names a file {path!r} that the bundle does not have")
        super().__init__(name=path, size_bytes=info.size_bytes, media_type=info.media_type)
        self._source = source

    def file_range(self) -> tuple[Path, int, int] | None:
        return self._source.plain_range(self._name)

    def _fill(self, buffer: memoryview) -> None:
        self._source.read_into(self._name, buffer)


class FileBlob(LoadableBlob):
    """A file of this machine, or a range of one: what a build step opens.

    Raises:
        FileError: there is no such file, or the range is not inside it.
    """

    def __init__(
        self, file: Path, *, media_type: str = "application/octet-stream", offset: int = 0, length: int | None = None
    ) -> None:
        try:
            whole = file.stat().st_size
        except OSError as error:
            raise FileError(f"cannot read {file}: {error.strerror}") from error
        size = whole - offset if length is None else length
        if offset < 0 or size < 0 or offset + size > whole:
            raise FileError(f"{file} has {whole} bytes, expected {size} at offset {offset}")
        super().__init__(name=file.name, size_bytes=size, media_type=media_type)
        self._source = file
        self._offset = offset
        self._whole = offset == 0 and size == whole

    def file_range(self) -> tuple[Path, int, int] | None:
        return self._source, self._offset, self._size_bytes

    def path(self) -> Path:
        return self._source if self._whole else super().path()

    def _fill(self, buffer: memoryview) -> None:
        with self._source.open("rb", buffering=0) as stream:
            stream.seek(self._offset)
            done = 0
            while done < len(buffer):
                count = stream.readinto(buffer[done : done + _READ_BYTES])
                if not count:
                    raise FileError(f"{self._source} became shorter while it was read")
                done += count


class _MemoryFile:
    """A sealed memory file and a path to it that other libraries can open.

    Sealed: nobody, the library included, can change what was checked. Where the name has a suffix, by which many
    libraries choose their reader, the path is a symbolic link with that suffix in a folder of mode 0700; the link holds
    no content.
    """

    def __init__(self, name: str, size_bytes: int, fill: Callable[[memoryview], None]) -> None:
        fd = _sealed(PurePosixPath(name).name, size_bytes, fill)
        folder: Path | None = None
        self.path = Path(f"/proc/self/fd/{fd}")
        try:
            if suffix := PurePosixPath(name).suffix:
                folder = Path(tempfile.mkdtemp(prefix="sdkpack-"))
                link = folder / f"model{suffix}"
                link.symlink_to(self.path)
                self.path = link
        except OSError as error:
            _remove(os.getpid(), fd, folder)
            raise RunError(f"cannot make a link to the memory file of {name!r}: {error.strerror}") from error
        # Also for a session that nobody closed: the link would stay in the folder for temporary files.
        self._finalize = weakref.finalize(self, _remove, os.getpid(), fd, folder)

    def close(self) -> None:
        self._finalize()


def _remove(pid: int, fd: int, folder: Path | None) -> None:
    if os.getpid() != pid:
        return  # a fork: link and session are the parent's
    os.close(fd)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _sealed(name: str, size_bytes: int, fill: Callable[[memoryview], None]) -> int:
    create: Any = getattr(os, "memfd_create", None)
    if create is None:
        raise RunError(
            f"{name!r} is needed as a file, and {sys.platform} has no memory files",
            hint="use a plain bundle, or a runtime that loads from memory",
        )
    import fcntl

    fd: int = create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if size_bytes:
            os.ftruncate(fd, size_bytes)
            with mmap.mmap(fd, size_bytes) as mapping, memoryview(mapping) as view:
                fill(view)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd
