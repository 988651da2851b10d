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

__all__ = ["PREFIX", "FileStamp", "canonical_json", "digest_bytes", "digest_json", "stamp_file"]

PREFIX: Final = "sha256:"


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
