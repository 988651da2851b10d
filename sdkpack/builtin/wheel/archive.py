"""Writes a wheel: a ZIP archive whose bytes depend on its content alone.

Format: the binary distribution format, version 1.0 (PyPA specifications). A build back end would take ten times as
long and add nothing here. Files are stored uncompressed: a bundle is ciphertext, and stored members can be mapped.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

__all__ = ["WheelArchive"]

# The earliest date that ZIP can say; a wheel of ours says nothing of when it was made.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644 << 16
_CHUNK_BYTES: Final = 1 << 20


class WheelArchive:
    """Adds files, then RECORD, to a new archive."""

    def __init__(self, target: Path, dist_info: str) -> None:
        self._zip = zipfile.ZipFile(target, "x", zipfile.ZIP_STORED, allowZip64=True)
        self._dist_info = dist_info
        self._record: list[str] = []

    def add_text(self, name: str, text: str) -> None:
        self._add(name, [text.encode()])

    def add_bytes(self, name: str, content: bytes) -> None:
        self._add(name, [content])

    def add_file(self, name: str, source: Path) -> None:
        """Adds a file of any size, a piece at a time."""
        with source.open("rb") as file:
            self._add(name, _pieces(file))

    def close(self) -> None:
        """Writes RECORD and ends the archive."""
        record = f"{self._dist_info}/RECORD"
        lines = [*sorted(self._record), f"{record},,"]
        with self._zip.open(_member(record), "w") as member:
            member.write(("\n".join(lines) + "\n").encode())
        self._zip.close()

    def _add(self, name: str, pieces: Iterable[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        with self._zip.open(_member(name), "w", force_zip64=True) as member:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                member.write(piece)
        text = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        self._record.append(f"{name},sha256={text},{size}")


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = _MODE
    info.create_system = 3  # Unix, also where it is written on another system
    return info


def _pieces(file: IO[bytes]) -> Iterable[bytes]:
    while piece := file.read(_CHUNK_BYTES):
        yield piece
