"""Reads blobs: from the file, through the digest and the cipher, into the caller's memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.index import Index, chunk_hash_offsets
from sdkpack.crypto.keys import equal
from sdkpack.crypto.stream import TAG_SIZE, ChunkCipher, InvalidTag
from sdkpack.errors import PayloadError

if TYPE_CHECKING:
    from sdkpack.bundle.directory import Directory
    from sdkpack.bundle.source import ByteSource

__all__ = ["BlobReader", "Sink", "check_stored"]

_INLINE: Final = 256 << 10  # below this a thread costs more than it saves
_MAX_WORKERS: Final = 4  # the memory bus is full then
_SLOTS: Final = 3

Sink = Callable[[memoryview], Any]


@dataclass(frozen=True, slots=True)
class BlobReader:
    """The blobs of one bundle whose index is authenticated.

    Args:
        source: the bundle's bytes.
        directory: digests and places of the stored blobs.
        index: sizes and keys.
        encrypted: whether blobs are encrypted.
        digests: whether each read is held against the SHA-256 of the stored bytes. GCM stops everyone but a
            recipient, who knows the keys: where a signature is required, the digest proves the publisher's bytes.
    """

    source: ByteSource
    directory: Directory
    index: Index
    encrypted: bool
    digests: bool
    _hashes_at: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hashes_at", chunk_hash_offsets(self.index.blobs))

    def read_into(self, number: int, target: memoryview) -> None:
        """Fills `target` with a blob, checked; on failure `target` is zeroed.

        Raises:
            PayloadError: the stored bytes are not those that were written.
        """
        blob = self.index.blobs[number]
        if len(target) != blob.size_bytes:
            raise ValueError(f"the blob has {blob.size_bytes} bytes, the buffer {len(target)}")
        try:
            if self.digests and self.index.chunk_hashes and blob.size_bytes > _INLINE:
                self._read_parallel(number, target)
            else:
                for _ in self._pass(number, into=target):
                    pass
        except BaseException:
            _wipe(target)
            raise

    def stream(self, number: int, sink: Sink) -> None:
        """Hands a blob's plaintext to `sink`, chunk by chunk.

        A changed bundle raises only at the chunk, or at the end: `sink` must keep what it got to itself until then.

        Raises:
            PayloadError: the stored bytes are not those that were written.
        """
        for part in self._pass(number, into=None):
            sink(part)

    def check(self, number: int) -> None:
        """Checks everything that the bundle says of a blob, digest of the plaintext included, and keeps nothing.

        Raises:
            PayloadError: something differs.
        """
        digest = hashlib.sha256()
        stored = self._pass(number, into=None, digests=True)
        if not self.encrypted:
            for _ in stored:
                pass
        else:
            for part in stored:
                digest.update(part)
            if not equal(digest.digest(), self.index.blobs[number].plain_sha256):
                raise PayloadError(AUTHENTICATION_FAILED)
        self._check_chunk_hashes(number)

    def _cipher(self, number: int) -> ChunkCipher | None:
        blob = self.index.blobs[number]
        return ChunkCipher(blob.key, blob.size_bytes, blob.chunk_log2) if self.encrypted else None

    def _spans(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Yields (chunk, offset in the file, stored length)."""
        blob, stored = self.index.blobs[number], self.directory.blobs[number]
        step = (1 << blob.chunk_log2) + (TAG_SIZE if self.encrypted else 0)
        for chunk, offset in enumerate(range(0, stored.size_bytes, step)):
            yield chunk, stored.offset + offset, min(step, stored.size_bytes - offset)

    def _pass(self, number: int, *, into: memoryview | None, digests: bool | None = None) -> Iterator[memoryview]:
        """Reads, hashes and opens one chunk after the other; a second thread hashes."""
        blob, stored = self.index.blobs[number], self.directory.blobs[number]
        cipher = self._cipher(number)
        want = self.digests if digests is None else digests
        length = min(blob.size_bytes, 1 << blob.chunk_log2)
        area = memoryview(bytearray(length)) if into is None else into
        # Without a hasher to wait for, one slot stays in the processor's cache.
        count = (_SLOTS if want else 1) if cipher else 0
        slots = [memoryview(bytearray(length + TAG_SIZE)) for _ in range(count)]
        # How many chunks may still be with the hasher when the next is read: as many as have a place of their own.
        free = len(slots) or (1 if into is None else None)
        with _hasher(background=stored.size_bytes > _INLINE) as hasher:
            for chunk, offset, size in self._spans(number):
                start = 0 if into is None else chunk << blob.chunk_log2
                plain = area[start : start + size - (TAG_SIZE if cipher else 0)]
                data = slots[chunk % count][:size] if cipher else plain
                hasher.wait_for_slot(free)
                self.source.read_into(offset, data)
                if want:
                    hasher.update(data)
                if cipher:
                    _open(cipher, chunk, data, plain)
                yield plain
            if want and not equal(hasher.digest(), stored.sha256):
                raise PayloadError(AUTHENTICATION_FAILED)

    def _read_parallel(self, number: int, target: memoryview) -> None:
        """With a table of chunk digests every core takes a share of the chunks."""
        spans = list(self._spans(number))
        workers = min(_MAX_WORKERS, os.cpu_count() or 1, len(spans))
        with ThreadPoolExecutor(workers, "sdkpack-read") as pool:
            shares = [pool.submit(self._read_share, number, spans[first::workers], target) for first in range(workers)]
            for share in shares:
                share.result()

    def _read_share(self, number: int, spans: list[tuple[int, int, int]], target: memoryview) -> None:
        cipher, blob = self._cipher(number), self.index.blobs[number]
        first = self._hashes_at[number]
        scratch = memoryview(bytearray((1 << blob.chunk_log2) + TAG_SIZE)) if cipher else None
        for chunk, offset, size in spans:
            start = chunk << blob.chunk_log2
            plain = target[start : start + (size - TAG_SIZE if cipher else size)]
            data = scratch[:size] if scratch is not None else plain
            self.source.read_into(offset, data)
            expected = self.index.chunk_hashes[first + 32 * chunk : first + 32 * chunk + 32]
            if not equal(hashlib.sha256(data).digest(), expected):
                raise PayloadError(AUTHENTICATION_FAILED)
            if cipher:
                _open(cipher, chunk, data, plain)

    def _check_chunk_hashes(self, number: int) -> None:
        if not self.index.chunk_hashes:
            return
        first = self._hashes_at[number]
        for chunk, offset, size in self._spans(number):
            data = bytearray(size)
            self.source.read_into(offset, data)
            at = first + 32 * chunk
            if not equal(hashlib.sha256(data).digest(), self.index.chunk_hashes[at : at + 32]):
                raise PayloadError(AUTHENTICATION_FAILED)


def check_stored(source: ByteSource, directory: Directory) -> None:
    """Holds every stored blob against the directory; needs no key.

    Raises:
        PayloadError: the stored bytes are not those that were written.
    """
    buffer = memoryview(bytearray(1 << 20))
    for blob in directory.blobs:
        digest = hashlib.sha256()
        for start in range(0, blob.size_bytes, len(buffer)):
            part = buffer[: min(len(buffer), blob.size_bytes - start)]
            source.read_into(blob.offset + start, part)
            digest.update(part)
        if not equal(digest.digest(), blob.sha256):
            raise PayloadError(AUTHENTICATION_FAILED)


def _open(cipher: ChunkCipher, chunk: int, stored: memoryview, plain: memoryview) -> None:
    try:
        cipher.decrypt_into(chunk, stored, plain)
    except InvalidTag:
        raise PayloadError(AUTHENTICATION_FAILED) from None


def _wipe(target: memoryview) -> None:
    """Zeroes memory that holds unverified plaintext, so that no caller can use it by mistake."""
    zeros = bytes(min(len(target), 1 << 20))
    for start in range(0, len(target), len(zeros) or 1):
        part = target[start : start + len(zeros)]
        part[:] = zeros[: len(part)]


class _Hasher:
    """One SHA-256, fed in order, by this thread or another."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._sha = hashlib.sha256()
        self._pool = pool
        self._pending: list[Future[None]] = []

    def update(self, data: memoryview) -> None:
        if self._pool is None:
            self._sha.update(data)
        else:
            self._pending.append(self._pool.submit(self._sha.update, data))

    def wait_for_slot(self, slots: int | None) -> None:
        """Waits until fewer than `slots` buffers are still being read; None: buffers are not used again."""
        while slots is not None and len(self._pending) >= slots:
            self._pending.pop(0).result()

    def digest(self) -> bytes:
        self.wait_for_slot(1)
        return self._sha.digest()


@contextmanager
def _hasher(*, background: bool) -> Iterator[_Hasher]:
    if not background:
        yield _Hasher(None)
        return
    with ThreadPoolExecutor(1, "sdkpack-hash") as pool:
        yield _Hasher(pool)
