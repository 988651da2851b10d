"""Moves one blob from its source to the bundle: read, encrypt, write, while another thread hashes.

SHA-256 is thirty times slower than AES-GCM, so it decides the speed: each byte is hashed once, beside the writing.
Memory stays at a few chunks whatever the blob's size.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from sdkpack.crypto.stream import TAG_SIZE, ChunkCipher, chunk_count
from sdkpack.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.utils import Buffer

    from sdkpack.bundle.content import BlobSource

__all__ = ["BlobPump", "Pumped", "fill", "hash_source"]

_MAX_SLOTS: Final = 4
_SLOT_BUDGET: Final = 8 << 20
_INLINE: Final = 256 << 10  # below this a thread costs more than it saves
_HASH_BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pumped:
    """What became of a blob."""

    stored_sha256: bytes
    plain_sha256: bytes
    """Empty where nobody asked for it."""
    chunk_hashes: bytes


class BlobPump:
    """Moves blobs, one after the other, through the same few buffers.

    Args:
        write: takes the stored bytes.
        chunk_log2: chunk length as a power of two.
        tick: told the number of plain bytes moved, and raises to stop.
    """

    def __init__(self, write: Callable[[Buffer], Any], chunk_log2: int, tick: Callable[[int], None]) -> None:
        self._write = write
        self._log2 = chunk_log2
        self._tick = tick
        self._stored_pool = ThreadPoolExecutor(1, "sdkpack-hash")
        self._plain_pool = ThreadPoolExecutor(1, "sdkpack-hash-plain")
        self._slots: list[_Slot] = []

    def close(self) -> None:
        self._stored_pool.shutdown(cancel_futures=True)
        self._plain_pool.shutdown(cancel_futures=True)

    def run(self, source: BlobSource, cipher: ChunkCipher | None, *, hash_plain: bool, hash_chunks: bool) -> Pumped:
        """Moves one blob; a plain one where `cipher` is None.

        Raises:
            FileError: the source gives more or fewer bytes than it said.
        """
        digests = _Digests(self, background=source.size_bytes > _INLINE, plain=hash_plain, chunks=hash_chunks)
        count = chunk_count(source.size_bytes, self._log2) if cipher or source.size_bytes else 0
        self._make_slots(min(source.size_bytes, 1 << self._log2), encrypted=cipher is not None)
        with open_for_reading(source) as file:
            for number in range(count):
                slot = self._slots[number % len(self._slots)]
                slot.wait()
                length = min(1 << self._log2, source.size_bytes - (number << self._log2))
                fill(file, slot.plain[:length])
                self._move(number, length, slot, cipher, digests)
            if file.read(1):
                raise FileError(f"a source has more than its {source.size_bytes} bytes: it changed while packing")
        return digests.finish(self._slots)

    def _move(self, number: int, length: int, slot: _Slot, cipher: ChunkCipher | None, digests: _Digests) -> None:
        plain = slot.plain[:length]
        if cipher is None:
            stored = plain
        else:
            stored = slot.stored[: length + TAG_SIZE]
            cipher.encrypt_into(number, plain, stored)
        digests.update(slot, plain, stored)
        self._write(stored)
        self._tick(length)

    def _make_slots(self, length: int, *, encrypted: bool) -> None:
        if self._slots and len(self._slots[0].plain) >= length and (self._slots[0].stored or not encrypted):
            return
        count = max(1, min(_MAX_SLOTS, _SLOT_BUDGET >> self._log2))
        self._slots = [_Slot(length, encrypted=encrypted) for _ in range(count)]


class _Slot:
    """Buffers for one chunk, and who still reads them."""

    def __init__(self, length: int, *, encrypted: bool) -> None:
        self.plain = memoryview(bytearray(length))
        self.stored = memoryview(bytearray(length + TAG_SIZE if encrypted else 0))
        self.readers: list[Future[None]] = []

    def wait(self) -> None:
        for reader in self.readers:
            reader.result()
        self.readers.clear()


class _Digests:
    """The digests of one blob; each is fed by one thread, in order."""

    def __init__(self, pump: BlobPump, *, background: bool, plain: bool, chunks: bool) -> None:
        self._pools = (pump._stored_pool, pump._plain_pool) if background else None  # noqa: SLF001
        self._stored = hashlib.sha256()
        self._plain = hashlib.sha256() if plain else None
        self._chunks: list[bytes] | None = [] if chunks else None

    def update(self, slot: _Slot, plain: memoryview, stored: memoryview) -> None:
        if self._pools is None:
            self._feed_stored(stored)
            if self._plain:
                self._plain.update(plain)
            return
        slot.readers.append(self._pools[0].submit(self._feed_stored, stored))
        if self._plain:
            slot.readers.append(self._pools[1].submit(self._plain.update, plain))

    def _feed_stored(self, stored: memoryview) -> None:
        self._stored.update(stored)
        if self._chunks is not None:
            self._chunks.append(hashlib.sha256(stored).digest())

    def finish(self, slots: list[_Slot]) -> Pumped:
        for slot in slots:
            slot.wait()
        return Pumped(
            stored_sha256=self._stored.digest(),
            plain_sha256=self._plain.digest() if self._plain else b"",
            chunk_hashes=b"".join(self._chunks or ()),
        )


def open_for_reading(source: BlobSource) -> BinaryIO:
    """Opens a source, or raises FileError: an OSError further up would be taken for the target's."""
    try:
        return source.open()
    except OSError as error:
        raise FileError(f"cannot read a source: {error}") from error


def fill(file: BinaryIO, view: memoryview) -> None:
    """Fills the view from the file, or raises FileError where the file ends early or cannot be read."""
    done = 0
    while done < len(view):
        try:
            count = file.readinto(view[done:])  # type: ignore[attr-defined]
        except OSError as error:
            raise FileError(f"cannot read a source: {error}") from error
        if not count:
            raise FileError("a source ended early: it changed while packing")
        done += count


def hash_source(source: BlobSource) -> bytes:
    """Returns the SHA-256 of a source, in a pass of its own."""
    digest, buffer, left = hashlib.sha256(), memoryview(bytearray(_HASH_BUFFER)), source.size_bytes
    with open_for_reading(source) as file:
        while left:
            part = buffer[: min(left, len(buffer))]
            fill(file, part)
            digest.update(part)
            left -= len(part)
    return digest.digest()
