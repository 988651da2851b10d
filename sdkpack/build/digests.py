"""Digests of files, bytes and JSON values: what names things in the store."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import FileError
from sdkpack.types import Digest

__all__ = [
    "PREFIX",
    "FileStamp",
    "FolderStamp",
    "Stamp",
    "canonical_json",
    "digest_bytes",
    "digest_json",
    "stamp_file",
    "stamp_source",
]

PREFIX: Final = "sha256:"

_MAX_MEMBERS: Final = 10_000
"""Files in a model's folder: real ones have some dozens, a home folder named by mistake has millions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """A file's content by digest, and by what tells cheaply that it was not written to since."""

    digest: Digest
    size_bytes: int
    inode: int
    modified_ns: int

    def check_unchanged(self, path: Path) -> None:
        """
        Raises:
            FileError: the file was written to or replaced since, so that what was read may be a mixture.
        """
        status = path.stat()
        if (status.st_size, status.st_ino, status.st_mtime_ns) != (self.size_bytes, self.inode, self.modified_ns):
            raise FileError(
                "the file changed while it was read", where=str(path), hint="pack again when it is complete"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStamp:
    """The same for a folder: all regular files below it, by their names."""

    digest: Digest
    size_bytes: int
    members: tuple[tuple[str, FileStamp], ...]

    def check_unchanged(self, path: Path) -> None:
        """
        Raises:
            FileError: a file was written to, added, removed or replaced since.
        """
        for name, stamp in self.members:
            stamp.check_unchanged(path / name)
        if [name for name, _ in self.members] != _names_below(path):
            raise FileError(
                "files came or went while the folder was read", where=str(path), hint="pack again when it is complete"
            )


Stamp = FileStamp | FolderStamp


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no white space, UTF-8, finite numbers.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_bytes(data: bytes | memoryview) -> Digest:
    return PREFIX + hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> Digest:
    return digest_bytes(canonical_json(value))


def stamp_file(path: Path) -> FileStamp:
    """Reads and hashes a file.

    Raises:
        FileError: it is missing, unreadable or no regular file.
    """
    try:
        # O_NONBLOCK: a fifo in a file's place must not hang the build.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise FileError(f"cannot read it: {(error.strerror or str(error)).lower()}", where=str(path)) from error
    with os.fdopen(fd, "rb") as file:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise FileError("not a regular file", where=str(path))
        digest = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
        stamp = FileStamp(digest=digest, size_bytes=before.st_size, inode=before.st_ino, modified_ns=before.st_mtime_ns)
    stamp.check_unchanged(path)
    return stamp


def stamp_source(path: Path) -> Stamp:
    """Stamps a model's file, or its folder where the format is one.

    Raises:
        FileError: it is missing, unreadable, or holds what is neither a regular file nor a folder (a link could lead
            anywhere), or more than `_MAX_MEMBERS` files.
    """
    if not path.is_dir():
        return stamp_file(path)
    members = tuple((name, stamp_file(path / name)) for name in _names_below(path))
    digest = digest_json([[name, stamp.digest, stamp.size_bytes] for name, stamp in members])
    return FolderStamp(digest=digest, size_bytes=sum(stamp.size_bytes for _, stamp in members), members=members)


def _names_below(folder: Path) -> list[str]:
    names: list[str] = []
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        # Python writes these beside any module that it runs.
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise FileError("a folder of a model may hold no symbolic links", where=str(path),
                                hint="put a copy of the file in its place")  # fmt: skip
        names += (Path(place, name).relative_to(folder).as_posix() for name in files)
        if len(names) > _MAX_MEMBERS:
            raise FileError(f"the folder holds more than {_MAX_MEMBERS} files", where=str(folder),
                            hint="name the folder of one model")  # fmt: skip
    return sorted(names)


def _unreadable(error: OSError) -> None:
    raise FileError(f"cannot read it: {(error.strerror or str(error)).lower()}", where=str(error.filename)) from error
