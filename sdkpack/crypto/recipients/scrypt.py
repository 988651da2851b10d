"""A passphrase, stretched by scrypt (RFC 7914)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sdkpack.crypto.keys import CEK_SIZE
from sdkpack.crypto.recipients.base import Randomness, Stanza
from sdkpack.errors import LimitError

__all__ = ["DEFAULT_LOG2N", "HARD_CAP_LOG2N", "POLICY_CAP_LOG2N", "TYPE", "WRAPPED_SIZE"]
__all__ += ["PassphraseIdentity", "PassphraseRecipient"]

TYPE: Final = "scrypt"
SALT_SIZE: Final = 16
WRAPPED_SIZE: Final = CEK_SIZE + 16
DEFAULT_LOG2N: Final = 17  # 128 MiB and some tenths of a second
POLICY_CAP_LOG2N: Final = 18  # what a reader computes unasked: a hostile file must not cost gigabytes
HARD_CAP_LOG2N: Final = 20  # 1 GiB; above it a file is malformed
_R: Final = 8
_LABEL: Final = b"sdkpack/1 scrypt\0"
# The key depends on a fresh salt and encrypts this one content key: a constant nonce is met by no second message.
_ZERO_NONCE: Final = bytes(12)


def _gcm(passphrase: str, bundle_id: bytes, salt: bytes, log2n: int) -> AESGCM:
    kdf = Scrypt(salt=_LABEL + bundle_id + salt, length=32, n=1 << log2n, r=_R, p=1)
    return AESGCM(kdf.derive(passphrase.encode("utf-8")))


@dataclass(frozen=True, slots=True)
class PassphraseRecipient:
    """Whoever knows the passphrase. It must be the only recipient: see the envelope's rules."""

    passphrase: str = field(repr=False)
    log2n: int = DEFAULT_LOG2N

    def __post_init__(self) -> None:
        if not self.passphrase:
            raise ValueError("a passphrase must not be empty")
        if not 1 <= self.log2n <= HARD_CAP_LOG2N:
            raise ValueError(f"scrypt cost must be 1 to {HARD_CAP_LOG2N}, got {self.log2n}")

    @property
    def type(self) -> str:
        return TYPE

    def wrap(self, cek: bytes, bundle_id: bytes, randomness: Randomness = os.urandom) -> Stanza:
        salt = randomness(SALT_SIZE)
        wrapped = _gcm(self.passphrase, bundle_id, salt, self.log2n).encrypt(_ZERO_NONCE, cek, None)
        return Stanza(type=TYPE, key_id=b"", params=(salt, self.log2n), wrapped=wrapped)


@dataclass(frozen=True, slots=True)
class PassphraseIdentity:
    """A passphrase that may open a bundle.

    Args:
        passphrase: as the publisher chose it; no normalisation is applied.
        cap_log2n: the largest cost this reader is willing to pay, at most 20.
    """

    passphrase: str = field(repr=False)
    cap_log2n: int = POLICY_CAP_LOG2N

    def unwrap(self, stanza: Stanza, bundle_id: bytes) -> bytes | None:
        """Returns the content key or None.

        Raises:
            LimitError: the file asks for more work than the cap; nothing was computed.
        """
        if stanza.type != TYPE or len(stanza.wrapped) != WRAPPED_SIZE:
            return None
        salt, log2n = stanza.params
        if log2n > min(self.cap_log2n, HARD_CAP_LOG2N):
            raise LimitError(
                f"the passphrase cost 2^{log2n} is above the limit 2^{self.cap_log2n}",
                hint="ask the publisher for another recipient type, or raise the limit if you trust the file",
            )
        try:
            return _gcm(self.passphrase, bundle_id, salt, log2n).decrypt(_ZERO_NONCE, stanza.wrapped, None)
        except InvalidTag:
            return None
