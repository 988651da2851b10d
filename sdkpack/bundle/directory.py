"""The public directory: what anyone can see, and the digest by which anyone can check every stored blob."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sdkpack.bundle import canonical
from sdkpack.bundle.layout import MAX_DIRECTORY_SIZE, place
from sdkpack.errors import DirectoryError, LimitError

__all__ = ["MAX_BLOBS", "Directory", "StoredBlob"]

MAX_BLOBS: Final = 65536  # keeps both tables within their limits, and a reader's work in seconds
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it lies in the file."""

    sha256: bytes
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    about: dict[str, Any]
    blobs: tuple[StoredBlob, ...]

    def encode(self) -> bytes:
        rows = [[blob.sha256, blob.offset, blob.size_bytes] for blob in self.blobs]
        data = canonical.encode({"about": self.about, "blobs": rows, "v": VERSION})
        if len(data) > MAX_DIRECTORY_SIZE:
            raise LimitError(f"the directory has {len(data)} bytes, expected at most {MAX_DIRECTORY_SIZE}")
        return data

    @classmethod
    def decode(cls, data: bytes, *, data_offset: int, directory_offset: int) -> Directory:
        """Reads the directory and recomputes where everything lies.

        Raises:
            DirectoryError: malformed, or an offset differs from the one placement there is.
            LimitError: too many blobs or items.
        """
        document = canonical.decode(data, error=DirectoryError, what="directory")
        about, rows = _fields(document)
        blobs = tuple(_row(row) for row in rows)
        offsets, end = place([blob.size_bytes for blob in blobs], data_offset)
        if [blob.offset for blob in blobs] != offsets or end != directory_offset:
            raise DirectoryError("a blob or the directory does not lie where the rule puts it")
        return cls(about=about, blobs=blobs)


def _fields(document: Any) -> tuple[dict[str, Any], list[Any]]:
    if type(document) is not dict or any(
        key not in ("about", "blobs", "v") and not key.startswith("x-") for key in document
    ):
        raise DirectoryError("the directory is not a map of about, blobs and v")
    about, rows, version = document.get("about"), document.get("blobs"), document.get("v")
    if type(version) is not int or version != VERSION:
        raise DirectoryError(f"the directory has version {version!r}, expected {VERSION}")
    if type(about) is not dict or type(rows) is not list:
        raise DirectoryError("the directory lacks about or blobs")
    if len(rows) > MAX_BLOBS:
        raise LimitError(f"{len(rows)} blobs, expected at most {MAX_BLOBS}")
    return about, rows


def _row(row: Any) -> StoredBlob:
    if type(row) is not list or [type(item) for item in row] != [bytes, int, int]:
        raise DirectoryError("a row of the directory is not [digest, offset, length]")
    blob = StoredBlob(*row)
    if len(blob.sha256) != 32 or blob.offset < 0 or not 0 <= blob.size_bytes < 1 << 48:
        raise DirectoryError("a row of the directory is out of range")
    return blob
