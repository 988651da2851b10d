"""Signatures: Ed25519 (RFC 8032), ECDSA P-256 with SHA-256 (FIPS 186-5), ML-DSA-65 (FIPS 204).

Raw forms:

| alg | public key | private key | signature |
| --- | --- | --- | --- |
| ed25519 | 32 B | 32 B seed | 64 B |
| ecdsa-p256-sha256 | 65 B uncompressed point | 32 B big-endian scalar | 64 B: r, s big-endian, s <= n/2 |
| ml-dsa-65 | 1952 B | 32 B seed | 3309 B |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sdkpack.crypto.recipients.base import Randomness

__all__ = ["ALGORITHMS", "ECDSA", "ED25519", "MLDSA", "InvalidSignature", "Signer", "SigningKey", "VerifyingKey"]
__all__ += ["ecdsa_from_der"]

ED25519: Final = "ed25519"
ECDSA: Final = "ecdsa-p256-sha256"
MLDSA: Final = "ml-dsa-65"


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    public_size: int
    private_size: int
    signature_size: int


ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        ED25519: Algorithm(public_size=32, private_size=32, signature_size=64),
        ECDSA: Algorithm(public_size=65, private_size=32, signature_size=64),
        MLDSA: Algorithm(public_size=1952, private_size=32, signature_size=3309),
    }
)

# Order of P-256 (FIPS 186-5, SP 800-186 3.2.1.3).
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signer(Protocol):
    """Something that signs: a key in memory, or a key provider's."""

    @property
    def alg(self) -> str: ...

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


def ecdsa_from_der(der: bytes) -> bytes:
    """Turns a DER signature (what most HSM tools give) into the raw form with the smaller s.

    (r, n - s) verifies as well as (r, s): allowing one of the two keeps a signature from having a twin.
    """
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key; the pair (alg, public key) is what one trusts, the key id only finds it."""

    alg: str
    public_key: bytes

    def __post_init__(self) -> None:
        algorithm = ALGORITHMS.get(self.alg)
        if algorithm is None or len(self.public_key) != algorithm.public_size:
            raise ValueError(f"not a raw public key of algorithm {self.alg}")

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()

    def verify(self, message: bytes, signature: bytes) -> None:
        """Checks a signature.

        Raises:
            InvalidSignature: it is not by this key over this message.
        """
        if len(signature) != ALGORITHMS[self.alg].signature_size:
            raise InvalidSignature
        if self.alg == ED25519:
            ed25519.Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        elif self.alg == MLDSA:
            mldsa.MLDSA65PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        else:
            self._verify_ecdsa(message, signature)

    def _verify_ecdsa(self, message: bytes, signature: bytes) -> None:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if s > _P256_ORDER // 2:
            raise InvalidSignature
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.public_key)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key in memory."""

    alg: str
    private_key: bytes = field(repr=False)
    public_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        algorithm = ALGORITHMS.get(self.alg)
        if algorithm is None or len(self.private_key) != algorithm.private_size:
            raise ValueError(f"not a raw private key of algorithm {self.alg}")
        object.__setattr__(self, "public_key", self._derive_public())

    @classmethod
    def generate(cls, alg: str, randomness: Randomness) -> SigningKey:
        if alg == ECDSA:  # OpenSSL draws the scalar in [1, n-1]
            value = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
            return cls(alg, value.to_bytes(32, "big"))
        return cls(alg, randomness(ALGORITHMS[alg].private_size))

    @property
    def verifying_key(self) -> VerifyingKey:
        return VerifyingKey(self.alg, self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Signs; Ed25519 and ECDSA (RFC 6979) are deterministic, ML-DSA is hedged with randomness."""
        if self.alg == ED25519:
            return ed25519.Ed25519PrivateKey.from_private_bytes(self.private_key).sign(message)
        if self.alg == MLDSA:
            return mldsa.MLDSA65PrivateKey.from_seed_bytes(self.private_key).sign(message)
        der = self._ecdsa().sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))
        return ecdsa_from_der(der)

    def _ecdsa(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.private_key, "big"), ec.SECP256R1())

    def _derive_public(self) -> bytes:
        if self.alg == ED25519:
            return ed25519.Ed25519PrivateKey.from_private_bytes(self.private_key).public_key().public_bytes_raw()
        if self.alg == MLDSA:
            return mldsa.MLDSA65PrivateKey.from_seed_bytes(self.private_key).public_key().public_bytes_raw()
        return self._ecdsa().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
