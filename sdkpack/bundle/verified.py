"""A bundle that passed verification: the only thing that hands out content."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from sdkpack.bundle.memory import load_buffer
from sdkpack.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cryptography.utils import Buffer

    from sdkpack.bundle.blobs import BlobReader, Sink
    from sdkpack.bundle.files import FileSystem
    from sdkpack.bundle.trust import TrustedKey

__all__ = ["FileInfo", "VerifiedBundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A file of a bundle."""

    size_bytes: int
    media_type: str
    sha256: bytes
    """Of the plaintext."""
    blob: int
    """Files with the same number share their bytes."""


class VerifiedBundle:
    """What a verified bundle says and holds. Made by `UntrustedBundle.verify` alone.

    Reading is safe from several threads. A plain bundle that is changed on disk after the check and before a read is
    refused at the read; one that is mapped by offset (`plain_range`) must lie where nobody else can write.
    """

    def __init__(
        self,
        *,
        blobs: BlobReader,
        identity: str,
        signed_by: tuple[TrustedKey, ...],
        document: object,
        check_now: bool,
    ) -> None:
        self._blobs = blobs
        self._checked: set[int] = set()
        self.identity = identity
        self.signed_by = signed_by
        self.document = document
        """What `validate_manifest` made of the manifest."""
        self.manifest: dict[str, Any] = blobs.index.manifest
        self.files: Mapping[str, FileInfo] = MappingProxyType(_files(blobs))
        if check_now:
            for number in range(len(blobs.index.blobs)):
                self._check(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._blobs.source.close()

    @property
    def encrypted(self) -> bool:
        return self._blobs.encrypted

    @property
    def path(self) -> Path | None:
        """The bundle's file, where it was opened by path."""
        return self._blobs.source.path

    @property
    def size_bytes(self) -> int:
        return self._blobs.source.size_bytes

    def read(self, path: str) -> bytes:
        """Returns a file's bytes; for large ones `load` or `read_into` spares a copy."""
        buffer = bytearray(self._info(path).size_bytes)
        self.read_into(path, buffer)
        return bytes(buffer)

    def load(self, path: str) -> memoryview:
        """Returns a file's bytes in memory of their own, aligned and on huge pages."""
        buffer = load_buffer(self._info(path).size_bytes)
        self.read_into(path, buffer)
        return buffer

    def read_into(self, path: str, buffer: Buffer) -> None:
        """Decrypts a file straight into the caller's memory, exactly as long as the file.

        On failure the memory is zeroed.

        Raises:
            PayloadError: the stored bytes are not those that were written.
            FileError: the bundle has no such file.
        """
        self._blobs.read_into(self._info(path).blob, memoryview(buffer).cast("B"))

    def stream(self, path: str, sink: Sink) -> None:
        """Hands a file's bytes to `sink` chunk by chunk; they are verified only when this returns."""
        self._blobs.stream(self._info(path).blob, sink)

    def plain_range(self, path: str) -> tuple[Path, int, int] | None:
        """Returns (bundle file, offset, length) of a file that can be mapped where it lies; None where it cannot.

        The blob is checked first, if it was not yet. Nothing checks later reads through the mapping.
        """
        info = self._info(path)
        if self.encrypted or self.path is None:
            return None
        self._check(info.blob)
        return self.path.absolute(), self._blobs.directory.blobs[info.blob].offset, info.size_bytes

    def unpack(self, folder: Path, *, quota_bytes: int | None = None, files: FileSystem | None = None) -> None:
        """Writes all files beneath a folder; see `sdkpack.bundle.unpack`."""
        from sdkpack.bundle.unpack import unpack

        unpack(self, folder, quota_bytes=quota_bytes, files=files)

    def _info(self, path: str) -> FileInfo:
        info = self.files.get(path)
        if info is None:
            raise FileError(f"the bundle has no file '{path}'", hint="list them: sdkpack inspect FILE")
        return info

    def _check(self, number: int) -> None:
        if number not in self._checked:
            self._blobs.check(number)
            self._checked.add(number)


def _files(blobs: BlobReader) -> dict[str, FileInfo]:
    result = {}
    for file in blobs.index.files:
        blob, stored = blobs.index.blobs[file.blob], blobs.directory.blobs[file.blob]
        digest = blob.plain_sha256 if blobs.encrypted else stored.sha256
        result[file.path] = FileInfo(
            size_bytes=blob.size_bytes, media_type=file.media_type, sha256=digest, blob=file.blob
        )
    return result
