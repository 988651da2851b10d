"""The index: manifest, file names and blob keys; in an encrypted bundle always encrypted itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sdkpack.bundle import canonical
from sdkpack.bundle.directory import MAX_BLOBS, Directory
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.paths import check_paths
from sdkpack.crypto.keys import SALT_SIZE, KeySchedule
from sdkpack.crypto.stream import (
    DEFAULT_CHUNK_LOG2,
    KEY_SIZE,
    MAX_CHUNK_LOG2,
    MAX_PLAIN_SIZE,
    MIN_CHUNK_LOG2,
    TAG_SIZE,
    ChunkCipher,
    InvalidTag,
    chunk_count,
    stored_size,
)
from sdkpack.errors import IndexDataError, LimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_INDEX_SIZE", "MAX_MANIFEST_SIZE", "Index", "IndexBlob", "IndexFile", "check_index_length"]
__all__ += ["open_index", "seal_index"]

MAX_INDEX_SIZE: Final = 16 << 20  # without chunk hashes: 65536 files with long names, and the manifest
MAX_MANIFEST_SIZE: Final = 4 << 20
VERSION: Final = 1
_INDEX_CHUNK_LOG2: Final = DEFAULT_CHUNK_LOG2
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


@dataclass(frozen=True, slots=True)
class IndexBlob:
    """What a reader needs to open a blob; in a plain bundle key and digest are empty."""

    size_bytes: int
    chunk_log2: int
    key: bytes = field(repr=False)
    plain_sha256: bytes

    @property
    def chunks(self) -> int:
        """How many chunks are stored: an empty blob has one if encrypted (its tag), else none."""
        return chunk_count(self.size_bytes, self.chunk_log2) if self.key or self.size_bytes else 0


@dataclass(frozen=True, slots=True)
class IndexFile:
    path: str
    blob: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    blobs: tuple[IndexBlob, ...]
    chunk_hashes: bytes
    files: tuple[IndexFile, ...]
    manifest: dict[str, Any]

    def encode(self) -> bytes:
        document = {
            "blobs": [[blob.size_bytes, blob.chunk_log2, blob.key, blob.plain_sha256] for blob in self.blobs],
            "chunk_hashes": self.chunk_hashes,
            "files": [[file.path, file.blob, file.media_type] for file in self.files],
            "manifest": self.manifest,
            "v": VERSION,
        }
        return canonical.encode(document, floats=True)

    def check_size(self) -> None:
        """Raises LimitError where no reader would accept the index or the manifest."""
        manifest = len(canonical.encode(self.manifest, floats=True))
        if manifest > MAX_MANIFEST_SIZE:
            raise LimitError(f"the manifest has {manifest} bytes, expected at most {MAX_MANIFEST_SIZE}")
        size = len(self.encode()) - len(self.chunk_hashes)
        if size > MAX_INDEX_SIZE:
            raise LimitError(f"the index has {size} bytes without chunk hashes, expected at most {MAX_INDEX_SIZE}")

    @classmethod
    def decode(cls, data: bytes, directory: Directory, *, encrypted: bool) -> Index:
        """Reads the index and checks it against the directory.

        Raises:
            IndexDataError: malformed, or it disagrees with the directory.
            PathNameError: a file name is not allowed.
            LimitError: a size or count is above the limit.
        """
        document = canonical.decode(data, error=IndexDataError, what="index", floats=True)
        blobs, files = _tables(document, encrypted=encrypted)
        manifest, hashes = document["manifest"], document["chunk_hashes"]
        index = cls(blobs=blobs, chunk_hashes=hashes, files=files, manifest=manifest)
        index.check_size()
        index._check_blobs(directory, encrypted=encrypted)
        index._check_files()
        _check_about(directory.about, manifest)
        return index

    def _check_blobs(self, directory: Directory, *, encrypted: bool) -> None:
        if len(self.blobs) != len(directory.blobs):
            raise IndexDataError(f"the index has {len(self.blobs)} blobs, the directory {len(directory.blobs)}")
        for number, (blob, stored) in enumerate(zip(self.blobs, directory.blobs, strict=True)):
            expected = stored_size(blob.size_bytes, blob.chunk_log2) if encrypted else blob.size_bytes
            if stored.size_bytes != expected:
                raise IndexDataError(f"blob {number} has {stored.size_bytes} stored bytes, expected {expected}")
        if not encrypted and len({blob.sha256 for blob in directory.blobs}) != len(directory.blobs):
            raise IndexDataError("two blobs have the same content")
        # One key for two blobs would repeat nonces. Equal content in line mode is one blob, so keys never repeat.
        if encrypted and len({blob.key for blob in self.blobs}) != len(self.blobs):
            raise IndexDataError("two blobs share a key")
        expected = 32 * sum(blob.chunks for blob in self.blobs)
        if self.chunk_hashes and len(self.chunk_hashes) != expected:
            raise IndexDataError(f"chunk hashes have {len(self.chunk_hashes)} bytes, expected {expected}")

    def _check_files(self) -> None:
        check_paths(file.path for file in self.files)
        if {file.blob for file in self.files} != set(range(len(self.blobs))):
            raise IndexDataError("a blob belongs to no file, or a file to no blob")


def _check_about(about: dict[str, Any], manifest: dict[str, Any]) -> None:
    for key, value in about.items():
        # What the directory shows without a key must not differ from what the bundle is.
        if key not in manifest or type(manifest[key]) is not type(value) or manifest[key] != value:
            raise IndexDataError(f"the directory shows another {key!r} than the manifest has")


def _tables(document: Any, *, encrypted: bool) -> tuple[tuple[IndexBlob, ...], tuple[IndexFile, ...]]:
    kinds = {"blobs": list, "chunk_hashes": bytes, "files": list, "manifest": dict, "v": int}
    if type(document) is not dict or any(type(document.get(name)) is not kind for name, kind in kinds.items()):
        raise IndexDataError("the index is not a map of blobs, chunk_hashes, files, manifest and v")
    if document["v"] != VERSION:
        raise IndexDataError(f"the index has version {document['v']}, expected {VERSION}")
    for key, value in document.items():
        if key not in kinds and not key.startswith("x-"):
            raise IndexDataError(f"the index has an unknown key {key[:40]!r}")
        if key != "manifest":
            try:
                canonical.refuse_floats(value)
            except ValueError:
                raise IndexDataError("the index has a float outside the manifest") from None
    if max(len(document["blobs"]), len(document["files"])) > MAX_BLOBS:
        raise LimitError(f"more than {MAX_BLOBS} blobs or files")
    blobs = tuple(_blob(row, encrypted=encrypted) for row in document["blobs"])
    return blobs, tuple(_file(row, len(blobs)) for row in document["files"])


def _blob(row: Any, *, encrypted: bool) -> IndexBlob:
    if type(row) is not list or [type(item) for item in row] != [int, int, bytes, bytes]:
        raise IndexDataError("a blob of the index is not [size, k, key, digest]")
    blob = IndexBlob(*row)
    if not 0 <= blob.size_bytes <= MAX_PLAIN_SIZE:
        raise LimitError(f"a blob of {blob.size_bytes} bytes, expected at most 2^40")
    lengths = (KEY_SIZE, 32) if encrypted else (0, 0)
    if (len(blob.key), len(blob.plain_sha256)) != lengths:
        raise IndexDataError("a blob's key or digest has a wrong length")
    if not MIN_CHUNK_LOG2 <= blob.chunk_log2 <= MAX_CHUNK_LOG2 or (
        not encrypted and blob.chunk_log2 != DEFAULT_CHUNK_LOG2
    ):
        raise IndexDataError(f"chunk size 2^{blob.chunk_log2} is not allowed")
    return blob


def is_media_type(text: str) -> bool:
    """Whether a text has the form of RFC 6838, section 4.2."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def _file(row: Any, blobs: int) -> IndexFile:
    if type(row) is not list or [type(item) for item in row] != [str, int, str]:
        raise IndexDataError("a file of the index is not [path, blob, media type]")
    file = IndexFile(*row)
    if not 0 <= file.blob < blobs:
        raise IndexDataError(f"file {file.path[:60]!r} names blob {file.blob} of {blobs}")
    if not is_media_type(file.media_type):
        raise IndexDataError(f"file {file.path[:60]!r} has no valid media type")
    return file


def check_index_length(length: int, directory: Directory, *, encrypted: bool) -> None:
    """Bounds the stored index before it is read: the limit, plus 32 bytes for each chunk there can be.

    Raises:
        LimitError: longer than a reader accepts.
    """
    chunks = sum(chunk_count(blob.size_bytes, MIN_CHUNK_LOG2) for blob in directory.blobs)
    plain = MAX_INDEX_SIZE + 32 * chunks
    if length > (SALT_SIZE + stored_size(plain, _INDEX_CHUNK_LOG2) if encrypted else plain):
        raise LimitError(f"the index has {length} bytes, more than a reader accepts")


def seal_index(plain: bytes, schedule: KeySchedule, salt: bytes) -> bytes:
    """Encrypts the index; the salt must be new for each index that is written under the same content key."""
    cipher = ChunkCipher(schedule.index_key(salt), len(plain), _INDEX_CHUNK_LOG2)
    out = bytearray(SALT_SIZE + cipher.stored)
    out[:SALT_SIZE] = salt
    source, target = memoryview(plain), memoryview(out)[SALT_SIZE:]
    for number in range(cipher.count):
        offset, length = cipher.plain_span(number)
        stored, stored_length = cipher.stored_span(number)
        cipher.encrypt_into(number, source[offset : offset + length], target[stored : stored + stored_length])
    return bytes(out)


def open_index(stored: bytes, schedule: KeySchedule) -> bytes:
    """Decrypts the index.

    Raises:
        IndexDataError: too short, or changed.
    """
    length = len(stored) - SALT_SIZE
    count = max(1, -(-length // ((1 << _INDEX_CHUNK_LOG2) + TAG_SIZE)))
    size = length - TAG_SIZE * count
    if size < 0 or stored_size(size, _INDEX_CHUNK_LOG2) != length:
        raise IndexDataError(f"an encrypted index cannot have {len(stored)} bytes")
    cipher = ChunkCipher(schedule.index_key(stored[:SALT_SIZE]), size, _INDEX_CHUNK_LOG2)
    out = bytearray(size)
    source, target = memoryview(stored)[SALT_SIZE:], memoryview(out)
    try:
        for number in range(cipher.count):
            offset, plain_length = cipher.plain_span(number)
            start, stored_length = cipher.stored_span(number)
            cipher.decrypt_into(number, source[start : start + stored_length], target[offset : offset + plain_length])
    except InvalidTag:
        raise IndexDataError(AUTHENTICATION_FAILED) from None
    return bytes(out)


def chunk_hash_offsets(blobs: Sequence[IndexBlob]) -> list[int]:
    """Returns where each blob's hashes begin in `chunk_hashes`."""
    offsets, at = [], 0
    for blob in blobs:
        offsets.append(at)
        at += 32 * blob.chunks
    return offsets
