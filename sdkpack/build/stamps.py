"""Remembers the digests of large files, so that an unchanged gigabyte is not hashed at every pack.

A file counts as unchanged while its device, inode, size, modification time and change time are the same. A program
cannot set the change time, so writing and then putting the modification time back is noticed. A file that changed
within the last seconds before it was hashed is not remembered: a clock's tick may hide a further write.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sdkpack.build.digests import FileStamp, digest_bytes, stamp_file
from sdkpack.bundle.files import FileSystem, atomic_file
from sdkpack.errors import SdkpackError

__all__ = ["StampMemory"]

_FROM_BYTES: Final = 16 << 20
"""Smaller files are hashed faster than they are looked up."""
_QUIET_NS: Final = 2_000_000_000


class StampMemory:
    """Stamps of large files, one small file each in `folder`."""

    def __init__(self, folder: Path, files: FileSystem, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._files = files
        self._clock = clock

    def stamp(self, path: Path) -> FileStamp:
        """The file's stamp, hashed only where it changed since the last time.

        Raises:
            FileError: it is missing, unreadable or no regular file.
        """
        before = _facts(path)
        if before is None or before["size"] < _FROM_BYTES:
            return stamp_file(path)
        record = self._folder / digest_bytes(os.fsencode(path.absolute())).partition(":")[2]
        known = self._recall(record, before)
        if known is not None:
            return known
        stamp = stamp_file(path)
        quiet = self._clock() - max(before["changed_ns"], before["modified_ns"]) > _QUIET_NS
        if quiet and _facts(path) == before:
            self._remember(record, before, stamp)
        return stamp

    def forget(self) -> None:
        """Removes every record."""
        for record in self._folder.iterdir():
            record.unlink(missing_ok=True)

    def _recall(self, record: Path, facts: dict[str, int]) -> FileStamp | None:
        try:
            known = json.loads(record.read_bytes())
            return FileStamp(**known["stamp"]) if known["facts"] == facts else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, record: Path, facts: dict[str, int], stamp: FileStamp) -> None:
        text = json.dumps({"facts": facts, "stamp": asdict(stamp)})
        try:
            with atomic_file(record, overwrite=True, mode=0o600, files=self._files) as out:
                out.write(text.encode())
        except SdkpackError:
            return  # a full disk costs the memory, not the pack


def _facts(path: Path) -> dict[str, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "changed_ns": status.st_ctime_ns,
    }
