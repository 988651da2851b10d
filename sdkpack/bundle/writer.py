"""Writes a bundle front to back in one pass, with memory of a few chunks, to a file or any binary stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sdkpack.bundle.directory import MAX_BLOBS, Directory, StoredBlob
from sdkpack.bundle.envelope import Envelope, data_offset_for, make_body, wrap_all
from sdkpack.bundle.files import FileSystem, atomic_file
from sdkpack.bundle.index import Index, IndexBlob, IndexFile, is_media_type, seal_index
from sdkpack.bundle.layout import (
    LARGE,
    PROLOGUE_SIZE,
    Prologue,
    Trailer,
    identity_of,
    place,
    signed_message,
    tail_digest,
)
from sdkpack.bundle.paths import check_paths
from sdkpack.bundle.pump import BlobPump, Pumped, hash_source
from sdkpack.bundle.sign import sign_message
from sdkpack.bundle.trust import encode_signatures
from sdkpack.crypto.keys import BUNDLE_ID_SIZE, CEK_SIZE, SALT_SIZE, KeySchedule, LineKey
from sdkpack.crypto.stream import DEFAULT_CHUNK_LOG2, KEY_SIZE, ChunkCipher, stored_size
from sdkpack.errors import FileError, InterruptedRunError, LimitError, OutputError, UsageError

if TYPE_CHECKING:
    from cryptography.utils import Buffer

    from sdkpack.bundle.content import BlobSource, BundleContent, FileItem, Seal
    from sdkpack.crypto.recipients import Randomness
    from sdkpack.crypto.signature import Signer

__all__ = ["BundleSummary", "write_bundle"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSummary:
    """What was written."""

    identity: str
    size_bytes: int
    message: bytes
    """The 148 bytes that a detached or later signature signs."""
    encrypted: bool
    blobs: int
    files: int
    signed_by: tuple[tuple[str, bytes], ...]
    """(algorithm, key id) of each signature."""


def write_bundle(
    content: BundleContent,
    target: Path | BinaryIO,
    *,
    seal: Seal | None,
    signers: Sequence[Signer] = (),
    chunk_hashes: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    randomness: Randomness = os.urandom,
    cancelled: Callable[[], bool] | None = None,
    files: FileSystem | None = None,
) -> BundleSummary:
    """Writes a bundle.

    Args:
        content: what to pack.
        target: a path, which gets the whole bundle or stays as it is; or a binary stream.
        seal: how to encrypt; None writes a plain bundle, whose bytes are a function of the content alone.
        signers: who signs it.
        chunk_hashes: adds a table that lets readers check large signed blobs in parallel and in part; it costs a
            second SHA-256 pass.
        overwrite: replaces an existing file.
        progress: told (bytes done, bytes in all).
        randomness: where keys, salts and the bundle id come from.
        cancelled: asked now and then; true stops.
        files: the file system.

    Raises:
        UsageError: recipients or a path name that are not allowed, or line mode into a stream.
        FileError: a source cannot be read, or changed while packing.
        OutputError: the target cannot be written.
        LimitError: above a limit that every reader has.
        InterruptedRunError: `cancelled` said so.
    """
    job = _Job(content, seal, chunk_hashes=chunk_hashes, randomness=randomness)
    tick = _Ticker(sum(blob.source.size_bytes for blob in job.blobs), progress, cancelled)
    if isinstance(target, Path):
        with atomic_file(target, overwrite=overwrite, files=files) as out:
            return job.write(out.write, signers, tick)
    if seal is not None and seal.line_key is not None:
        # If a source changed between hashing and encrypting, two messages would stand under one key and nonce; a file
        # can be destroyed then, bytes that went down a pipe cannot.
        raise UsageError("line mode cannot write to a stream", hint="write to a file")
    return job.write(_whole(target), signers, tick)


def _whole(stream: BinaryIO) -> Callable[[Buffer], None]:
    """A raw stream may take less than it is given, and a pipe may have no reader."""

    def write(data: Buffer) -> None:
        view = memoryview(data).cast("B")
        try:
            while len(view):
                count = stream.write(view)
                if not count:
                    raise OutputError("cannot write the bundle: the stream took no bytes")
                view = view[count:]
        except OSError as error:
            raise OutputError(f"cannot write the bundle: {error}") from error

    return write


class _Ticker:
    """Progress and cancelling, between chunks."""

    def __init__(self, total: int, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self._done, self._total = 0, total
        self._progress, self._cancelled = progress, cancelled

    def __call__(self, size: int) -> None:
        if self._cancelled and self._cancelled():
            raise InterruptedRunError("packing was cancelled")
        self._done += size
        if self._progress:
            self._progress(self._done, self._total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A blob to be written: which content, under which key."""

    source: BlobSource
    files: tuple[int, ...]
    key: bytes = b""
    plain_sha256: bytes = b""


class _Job:
    """One bundle: everything that can be refused is refused here, before the first byte is written."""

    def __init__(
        self, content: BundleContent, seal: Seal | None, *, chunk_hashes: bool, randomness: Randomness
    ) -> None:
        self._content = content
        self._seal = seal
        self._chunk_hashes = chunk_hashes
        self._randomness = randomness
        self._log2 = seal.chunk_log2 if seal else DEFAULT_CHUNK_LOG2
        self.files = sorted(content.files, key=lambda file: file.path)
        check_paths(file.path for file in self.files)
        self.blobs = self._order([self._with_key(blob) for blob in _merge_equal(self.files)])
        if max(len(self.blobs), len(self.files)) > MAX_BLOBS:
            raise LimitError(f"{len(self.files)} files, expected at most {MAX_BLOBS}")
        self._check_documents()

    def _check_documents(self) -> None:
        """Encodes the largest possible index now: a manifest that cannot be stored should not cost a long pack."""
        for file in self.files:
            if not is_media_type(file.media_type):
                raise UsageError(f"'{file.media_type}' is no media type", where=file.path)
        blobs = tuple(IndexBlob(1 << 40, self._log2, bytes(32), bytes(32)) for _ in self.blobs)
        try:
            self._index(blobs, b"").check_size()
            Directory(about=self._content.about, blobs=()).encode()
        except ValueError as error:
            raise UsageError(f"the manifest cannot be stored: {error}") from None

    def _with_key(self, blob: _Blob) -> _Blob:
        if self._seal is None:
            return blob
        if self._seal.line_key is None:
            return replace(blob, key=self._randomness(KEY_SIZE))
        # The writer hashes for itself: a wrong digest from elsewhere would give two contents one key.
        digest = hash_source(blob.source)
        key = LineKey(self._seal.line_key).blob_key(
            plain_sha256=digest, size=blob.source.size_bytes, chunk_log2=self._log2
        )
        return replace(blob, key=key, plain_sha256=digest)

    def _stored_size(self, blob: _Blob) -> int:
        size = blob.source.size_bytes
        return stored_size(size, self._log2) if self._seal else size

    def _order(self, blobs: list[_Blob]) -> list[_Blob]:
        """Small blobs first: a remote reader gets them with few requests, and alignment wastes least."""
        return sorted(blobs, key=lambda blob: self._stored_size(blob) >= LARGE)

    def write(self, write: Callable[[Buffer], Any], signers: Sequence[Signer], tick: _Ticker) -> BundleSummary:
        out = _Out(write)
        prologue, schedule = self._write_head(out)
        offsets, directory_offset = place([self._stored_size(blob) for blob in self.blobs], out.position)
        pumped = self._write_blobs(out, offsets, tick)
        out.pad_to(directory_offset)
        directory = Directory(
            about=self._content.about,
            blobs=tuple(
                StoredBlob(done.stored_sha256, offset, self._stored_size(blob))
                for blob, done, offset in zip(self.blobs, pumped, offsets, strict=True)
            ),
        ).encode()
        index = self._encode_index(pumped, schedule)
        return self._write_tail(out, prologue, schedule, directory, index, signers)

    def _write_head(self, out: _Out) -> tuple[bytes, KeySchedule | None]:
        if self._seal is None:
            prologue = Prologue(encrypted=False, data_offset=PROLOGUE_SIZE).encode()
            out.write(prologue)
            return prologue, None
        bundle_id = self._randomness(BUNDLE_ID_SIZE)
        schedule = KeySchedule(self._randomness(CEK_SIZE), bundle_id)
        stanzas = wrap_all(self._seal.recipients, schedule, self._randomness)
        body = make_body(stanzas, schedule.commit)
        data_offset = data_offset_for(len(body) + self._seal.spare_bytes)
        prologue = Prologue(encrypted=True, data_offset=data_offset, bundle_id=bundle_id).encode()
        out.write(prologue)
        out.write(Envelope.seal(stanzas, schedule, prologue).encode(data_offset))
        return prologue, schedule

    def _write_blobs(self, out: _Out, offsets: list[int], tick: _Ticker) -> list[Pumped]:
        pump = BlobPump(out.write, self._log2, tick)
        try:
            return [self._write_blob(pump, blob, out, offset) for blob, offset in zip(self.blobs, offsets, strict=True)]
        finally:
            pump.close()

    def _write_blob(self, pump: BlobPump, blob: _Blob, out: _Out, offset: int) -> Pumped:
        out.pad_to(offset)
        if self._seal is None:
            done = pump.run(blob.source, None, hash_plain=False, hash_chunks=self._chunk_hashes)
            plain = done.stored_sha256
        else:
            cipher = ChunkCipher(blob.key, blob.source.size_bytes, self._log2)
            known = blob.source.sha256 if self._seal.line_key is None else None
            done = pump.run(blob.source, cipher, hash_plain=known is None, hash_chunks=self._chunk_hashes)
            plain = known or done.plain_sha256
        expected = blob.plain_sha256 or blob.source.sha256
        if expected is not None and expected != plain:
            path = self.files[blob.files[0]].path
            raise FileError(f"the source of '{path}' changed while packing, or is not what its digest says")
        return done if self._seal is None else replace(done, plain_sha256=plain)

    def _index(self, blobs: tuple[IndexBlob, ...], hashes: bytes) -> Index:
        number_of = {file: number for number, blob in enumerate(self.blobs) for file in blob.files}
        rows = tuple(IndexFile(file.path, number_of[at], file.media_type) for at, file in enumerate(self.files))
        return Index(blobs=blobs, chunk_hashes=hashes, files=rows, manifest=self._content.manifest)

    def _encode_index(self, pumped: list[Pumped], schedule: KeySchedule | None) -> bytes:
        rows = tuple(
            IndexBlob(blob.source.size_bytes, self._log2, blob.key, done.plain_sha256)
            for blob, done in zip(self.blobs, pumped, strict=True)
        )
        plain = self._index(rows, b"".join(done.chunk_hashes for done in pumped)).encode()
        return plain if schedule is None else seal_index(plain, schedule, self._randomness(SALT_SIZE))

    def _write_tail(
        self,
        out: _Out,
        prologue: bytes,
        schedule: KeySchedule | None,
        directory: bytes,
        index: bytes,
        signers: Sequence[Signer],
    ) -> BundleSummary:
        digest = tail_digest(directory, index)
        message = signed_message(prologue, schedule.commit if schedule else bytes(32), digest)
        signatures = sign_message(message, signers)
        encoded = encode_signatures(signatures)
        trailer = Trailer(
            directory_offset=out.position,
            directory_length=len(directory),
            index_length=len(index),
            signatures_length=len(encoded),
            tail_digest=digest,
            tail_mac=schedule.tail_mac(message) if schedule else bytes(32),
        )
        for part in (directory, index, encoded, trailer.encode()):
            out.write(part)
        return BundleSummary(
            identity=identity_of(message),
            size_bytes=out.position,
            message=message,
            encrypted=schedule is not None,
            blobs=len(self.blobs),
            files=len(self.files),
            signed_by=tuple((item.alg, item.key_id) for item in signatures),
        )


class _Out:
    """Counts what is written and fills gaps with zeros."""

    def __init__(self, write: Callable[[Buffer], Any]) -> None:
        self._write = write
        self.position = 0

    def write(self, data: Buffer) -> None:
        self._write(data)
        self.position += memoryview(data).nbytes

    def pad_to(self, offset: int) -> None:
        if offset > self.position:
            self.write(bytes(offset - self.position))


def _merge_equal(files: list[FileItem]) -> list[_Blob]:
    """Finds files of equal content; only sources of equal size are hashed, and each once."""
    sizes: dict[int, int] = {}
    for file in files:
        sizes[file.source.size_bytes] = sizes.get(file.source.size_bytes, 0) + 1
    groups: dict[tuple[int, bytes], list[int]] = {}
    digests: dict[int, bytes] = {}
    for number, file in enumerate(files):
        source = file.source
        if sizes[source.size_bytes] > 1:
            digest = digests.get(id(source)) or source.sha256 or hash_source(source)
            digests[id(source)] = digest
        else:
            digest = b""
        groups.setdefault((source.size_bytes, digest), []).append(number)
    return [
        _Blob(source=_knowing(files[numbers[0]].source, digest), files=tuple(numbers))
        for (_, digest), numbers in groups.items()
    ]


def _knowing(source: BlobSource, digest: bytes) -> BlobSource:
    return replace(source, sha256=digest) if digest else source
