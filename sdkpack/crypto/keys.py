"""The key schedule: from a bundle's content key (CEK) to the keys of its parts, by HKDF-SHA256 (RFC 5869).

Every derivation has its own label, so a key made for one purpose is useless for another.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["BUNDLE_ID_SIZE", "CEK_SIZE", "SALT_SIZE", "SUITE", "KeySchedule", "LineKey", "equal", "hkdf", "label"]

SUITE: Final = 1
CEK_SIZE: Final = 32
BUNDLE_ID_SIZE: Final = 16
SALT_SIZE: Final = 32


def label(purpose: str) -> bytes:
    """Returns the label of a purpose: `sdkpack/1 `, the purpose, a zero byte, the suite.

    The zero byte ends the purpose, so no label is another's beginning.
    """
    return b"sdkpack/1 " + purpose.encode("ascii") + b"\0" + bytes([SUITE])


def equal(left: bytes, right: bytes) -> bool:
    """Compares in a time that does not depend on the content."""
    return hmac.compare_digest(left, right)


def hkdf(key: bytes, *, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256, extract and expand, to 32 bytes."""
    return HKDF(SHA256(), 32, salt, info).derive(key)


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """The keys of one bundle, derived from its content key.

    Args:
        cek: 32 random bytes, new for every bundle.
        bundle_id: the 16 random bytes in the prologue; the salt, so that a content key used twice by mistake still
            gives other keys.
    """

    cek: bytes = field(repr=False)
    bundle_id: bytes
    _prk: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.cek) != CEK_SIZE or len(self.bundle_id) != BUNDLE_ID_SIZE:
            raise ValueError(f"expected a {CEK_SIZE} byte content key and a {BUNDLE_ID_SIZE} byte bundle id")
        object.__setattr__(self, "_prk", HKDF.extract(SHA256(), self.bundle_id, self.cek))

    @property
    def commit(self) -> bytes:
        """Public value that fixes the content key: GCM does not, one ciphertext can open under two keys."""
        return self._expand(label("commit"))

    def envelope_mac(self, data: bytes) -> bytes:
        return hmac.digest(self._expand(label("mac")), data, hashlib.sha256)

    def tail_mac(self, message: bytes) -> bytes:
        return hmac.digest(self._expand(label("tail")), message, hashlib.sha256)

    def index_key(self, salt: bytes) -> bytes:
        """Key of the index; a rewritten index takes a new salt, because it is another message."""
        return self._expand(label("index") + salt)

    def _expand(self, info: bytes) -> bytes:
        return HKDFExpand(SHA256(), 32, info).derive(self._prk)


@dataclass(frozen=True, slots=True)
class LineKey:
    """The publisher's key for a product line: equal plaintext gives an equal blob key, hence equal ciphertext.

    It never enters a bundle. A recipient gets the keys of the blobs that his index lists and can derive no other.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise ValueError("a line key has 32 bytes")

    def blob_key(self, *, plain_sha256: bytes, size: int, chunk_log2: int) -> bytes:
        """Derives a blob's key from all that fixes its ciphertext: content, size and chunk length."""
        line = HKDFExpand(SHA256(), 32, label("line")).derive(self.secret)
        message = label("blob") + bytes([chunk_log2]) + size.to_bytes(8, "little") + plain_sha256
        return hmac.digest(line, message, hashlib.sha256)
