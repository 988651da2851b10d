"""What goes into a bundle, before it is one."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from sdkpack.crypto.stream import DEFAULT_CHUNK_LOG2, MAX_CHUNK_LOG2, MIN_CHUNK_LOG2
from sdkpack.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sdkpack.crypto.recipients import Recipient

__all__ = ["ABOUT_KEYS", "BlobSource", "BundleContent", "FileItem", "Seal"]

ABOUT_KEYS = ("name", "version", "sequence", "license")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSource:
    """Bytes to be packed, readable more than once.

    Args:
        size_bytes: their number; a source that gives more or fewer fails the pack.
        open: gives a new binary file at the beginning; it is closed after use.
        sha256: their digest where it is known, as from a content-addressed store, which saves a pass. The source then
            stands for the content of that digest: of two with one digest, one is read. What was packed under a wrong
            digest fails the pack or the verification.
    """

    size_bytes: int
    open: Callable[[], BinaryIO] = field(repr=False)
    sha256: bytes | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, sha256: bytes | None = None) -> BlobSource:
        return cls(size_bytes=len(data), open=lambda: io.BytesIO(data), sha256=sha256)

    @classmethod
    def from_path(cls, path: Path, *, sha256: bytes | None = None) -> BlobSource:
        """The bytes of a file, opened anew for each pass.

        Raises:
            FileError: there is no such regular file.
        """
        if not path.is_file():
            raise FileError(f"'{path}' is no file")
        return cls(size_bytes=path.stat().st_size, open=lambda: path.open("rb", buffering=0), sha256=sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileItem:
    """A named file of the bundle; files of equal content are stored once."""

    path: str
    media_type: str
    source: BlobSource


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """All that is packed.

    Args:
        manifest: a canonical document (see `sdkpack.bundle.canonical`).
        files: in any order; the bundle sorts them.
        about_keys: the manifest's keys that the directory shows to everyone, where present.
    """

    manifest: dict[str, Any]
    files: tuple[FileItem, ...] = ()
    about_keys: tuple[str, ...] = ABOUT_KEYS

    @property
    def about(self) -> dict[str, Any]:
        return {key: self.manifest[key] for key in self.about_keys if key in self.manifest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """How to encrypt.

    Args:
        recipients: who can open the bundle.
        chunk_log2: chunk length as a power of two, 16 to 24.
        line_key: the product line's key: equal content gets equal ciphertext, release after release. Observers then
            see which bundles share a blob.
        spare_bytes: room kept in the envelope for recipients added by a later re-wrap.
    """

    recipients: tuple[Recipient, ...]
    chunk_log2: int = DEFAULT_CHUNK_LOG2
    line_key: bytes | None = field(default=None, repr=False)
    spare_bytes: int = 0

    def __post_init__(self) -> None:
        if not MIN_CHUNK_LOG2 <= self.chunk_log2 <= MAX_CHUNK_LOG2:
            raise UsageError(f"chunk size 2^{self.chunk_log2}, expected 2^{MIN_CHUNK_LOG2} to 2^{MAX_CHUNK_LOG2}")
        if self.line_key is not None and len(self.line_key) != 32:
            raise UsageError("a line key has 32 bytes")
