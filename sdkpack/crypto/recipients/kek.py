"""A key-encryption key of 32 bytes, shared between publisher and customer, or used inside one organisation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sdkpack.crypto.keys import CEK_SIZE, hkdf, label
from sdkpack.crypto.recipients.base import Randomness, Stanza

__all__ = ["TYPE", "WRAPPED_SIZE", "Kek"]

TYPE: Final = "kek"
NONCE_SIZE: Final = 12
WRAPPED_SIZE: Final = NONCE_SIZE + CEK_SIZE + 16


@dataclass(frozen=True, slots=True)
class Kek:
    """Both recipient and identity: wraps with AES-256-GCM under a key derived for the bundle.

    Deriving with the bundle id as salt keeps the number of messages per GCM key at a handful, so random 96-bit
    nonces cannot collide however many bundles one key opens.
    """

    secret: bytes = field(repr=False)
    anonymous: bool = False

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise ValueError("a key-encryption key has 32 bytes")

    @property
    def type(self) -> str:
        return TYPE

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(label("kek id") + self.secret).digest()

    def wrap(self, cek: bytes, bundle_id: bytes, randomness: Randomness) -> Stanza:
        nonce = randomness(NONCE_SIZE)
        if len(nonce) != NONCE_SIZE:
            raise AssertionError("nonce of a wrong length")
        wrapped = nonce + self._gcm(bundle_id).encrypt(nonce, cek, None)
        return Stanza(type=TYPE, key_id=b"" if self.anonymous else self.key_id, params=(), wrapped=wrapped)

    def unwrap(self, stanza: Stanza, bundle_id: bytes) -> bytes | None:
        if stanza.type != TYPE or stanza.key_id not in (b"", self.key_id) or len(stanza.wrapped) != WRAPPED_SIZE:
            return None
        try:
            nonce, sealed = stanza.wrapped[:NONCE_SIZE], stanza.wrapped[NONCE_SIZE:]
            return self._gcm(bundle_id).decrypt(nonce, sealed, None)
        except InvalidTag:
            return None

    def _gcm(self, bundle_id: bytes) -> AESGCM:
        return AESGCM(hkdf(self.secret, salt=bundle_id, info=label("kek")))
