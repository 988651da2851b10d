"""Chunked AES-256-GCM: a message cut into chunks, each sealed with a nonce that says its place.

After STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance"): the counter stops reordering and dropping, the last-chunk flag stops truncation and appending.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = [
    "DEFAULT_CHUNK_LOG2",
    "KEY_SIZE",
    "MAX_CHUNK_LOG2",
    "MAX_PLAIN_SIZE",
    "MIN_CHUNK_LOG2",
    "TAG_SIZE",
    "ChunkCipher",
    "InvalidTag",
    "chunk_count",
    "chunk_nonce",
    "stored_size",
]

KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
NONCE_SIZE: Final = 12
DEFAULT_CHUNK_LOG2: Final = 20
MIN_CHUNK_LOG2: Final = 16  # below 64 KiB the cost of a call shows
MAX_CHUNK_LOG2: Final = 24  # a reader holds one chunk: 16 MiB is what a small device can spare
MAX_PLAIN_SIZE: Final = 1 << 40  # 2^24 chunks of 64 KiB: far below GCM's 2^32 blocks a key would allow per chunk


def chunk_nonce(number: int, *, last: bool) -> bytes:
    """Returns the 12-byte nonce of a chunk: three zero bytes, u64 big-endian number, last flag.

    The key belongs to one message alone, so a counter is safe: no two chunks of the message share a nonce, and the
    same (key, nonce) pair never meets a second message.
    """
    nonce = b"\0\0\0" + number.to_bytes(8, "big") + (b"\1" if last else b"\0")
    # AESGCM takes nonces of 8 to 128 bytes and hashes the odd ones: a wrong length would not fail, only weaken.
    if len(nonce) != NONCE_SIZE:
        raise AssertionError("nonce of a wrong length")
    return nonce


def chunk_count(size: int, chunk_log2: int) -> int:
    """Returns how many chunks hold `size` bytes: an empty message has one too, or nothing would authenticate it."""
    return max(1, (size + (1 << chunk_log2) - 1) >> chunk_log2)


def stored_size(size: int, chunk_log2: int) -> int:
    """Returns the length of the ciphertext of `size` bytes, tags included."""
    return size + TAG_SIZE * chunk_count(size, chunk_log2)


@dataclass(frozen=True, slots=True)
class ChunkCipher:
    """Seals or opens the chunks of one message, in any order and from several threads.

    The size is fixed beforehand, so which chunk is the last, and how long each one is, is never read from the data.

    Args:
        key: 32 bytes that encrypt this message and no other.
        size: length of the plaintext in bytes, at most 2^40.
        chunk_log2: chunk length as a power of two, 16 to 24.
    """

    key: bytes = field(repr=False)
    size: int
    chunk_log2: int = DEFAULT_CHUNK_LOG2
    _gcm: AESGCM = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise ValueError(f"a content key has {KEY_SIZE} bytes, got {len(self.key)}")
        if not MIN_CHUNK_LOG2 <= self.chunk_log2 <= MAX_CHUNK_LOG2:
            raise ValueError(f"chunk size must be 2^{MIN_CHUNK_LOG2} to 2^{MAX_CHUNK_LOG2}, got 2^{self.chunk_log2}")
        if not 0 <= self.size <= MAX_PLAIN_SIZE:
            raise ValueError(f"size must be 0 to {MAX_PLAIN_SIZE}, got {self.size}")
        object.__setattr__(self, "_gcm", AESGCM(self.key))

    @property
    def count(self) -> int:
        """Number of chunks, at least one."""
        return chunk_count(self.size, self.chunk_log2)

    @property
    def stored(self) -> int:
        """Length of the whole ciphertext in bytes."""
        return stored_size(self.size, self.chunk_log2)

    def plain_span(self, number: int) -> tuple[int, int]:
        """Returns offset and length of a chunk in the plaintext."""
        if not 0 <= number < self.count:
            raise IndexError(f"chunk {number} of {self.count}")
        offset = number << self.chunk_log2
        return offset, min(1 << self.chunk_log2, self.size - offset)

    def stored_span(self, number: int) -> tuple[int, int]:
        """Returns offset and length of a chunk in the ciphertext."""
        offset, length = self.plain_span(number)
        return offset + number * TAG_SIZE, length + TAG_SIZE

    def encrypt_into(self, number: int, plain: Buffer, out: Buffer) -> int:
        """Seals one chunk into `out` (exactly as long as the sealed chunk) and returns its length."""
        if memoryview(plain).nbytes != self.plain_span(number)[1]:
            raise ValueError(f"chunk {number} has {self.plain_span(number)[1]} bytes, got {memoryview(plain).nbytes}")
        return self._gcm.encrypt_into(self._nonce(number), plain, None, out)

    def decrypt_into(self, number: int, stored: Buffer, out: Buffer) -> int:
        """Opens one chunk into `out` (exactly as long as the plain chunk) and returns its length.

        Raises:
            InvalidTag: wrong key, wrong place or changed bytes. `out` is then undefined and must not be used.
        """
        if memoryview(stored).nbytes != self.stored_span(number)[1]:
            raise InvalidTag
        return self._gcm.decrypt_into(self._nonce(number), stored, None, out)

    def _nonce(self, number: int) -> bytes:
        return chunk_nonce(number, last=number == self.count - 1)
