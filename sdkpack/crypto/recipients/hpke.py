"""Public-key recipients by HPKE (RFC 9180), base mode: X25519, the hybrid ML-KEM-768 + X25519, and P-384.

A key's raw form, which key ids and key files use:

| type | public key | private key |
| --- | --- | --- |
| hpke-x25519 | 32 B (RFC 7748) | 32 B |
| hpke-mlkem768x25519 | 1184 B ML-KEM-768 (FIPS 203), 32 B X25519 | 64 B ML-KEM seed, 32 B X25519 |
| hpke-p384 | 97 B uncompressed point (SEC 1, 2.3.3) | 48 B big-endian scalar |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdkpack.crypto.keys import label
from sdkpack.crypto.recipients.base import Randomness, Stanza

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HYBRID", "KEMS", "P384", "X25519", "HpkeIdentity", "HpkeRecipient"]

X25519: Final = "hpke-x25519"
HYBRID: Final = "hpke-mlkem768x25519"
P384: Final = "hpke-p384"
_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_SEED_SIZE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Kem:
    """One KEM with its key forms; KDF and AEAD are HKDF-SHA256 and AES-256-GCM for all."""

    suite: Suite
    wrapped_size: int
    public_size: int
    private_size: int
    load_public: Callable[[bytes], Any]
    load_private: Callable[[bytes], Any]
    dump_public: Callable[[Any], bytes]
    generate: Callable[[Randomness], bytes]


def _hybrid_public(raw: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_SIZE]),
        x25519.X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_SIZE:]),
    )


def _hybrid_private(raw: bytes) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED_SIZE]),
        x25519.X25519PrivateKey.from_private_bytes(raw[_MLKEM_SEED_SIZE:]),
    )


def _p384_private(raw: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP384R1())


def _p384_generate(_: Randomness) -> bytes:
    # OpenSSL draws the scalar: reducing our own random bytes would be cryptography of our own.
    return ec.generate_private_key(ec.SECP384R1()).private_numbers().private_value.to_bytes(48, "big")


def _suite(kem: KEM) -> Suite:
    return Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


KEMS: Final[Mapping[str, Kem]] = MappingProxyType(
    {
        X25519: Kem(
            suite=_suite(KEM.X25519),
            wrapped_size=80,
            public_size=32,
            private_size=32,
            load_public=x25519.X25519PublicKey.from_public_bytes,
            load_private=x25519.X25519PrivateKey.from_private_bytes,
            dump_public=lambda private: private.public_key().public_bytes_raw(),
            generate=lambda randomness: randomness(32),
        ),
        HYBRID: Kem(
            suite=_suite(KEM.MLKEM768_X25519),
            wrapped_size=1168,
            public_size=_MLKEM_PUBLIC_SIZE + 32,
            private_size=_MLKEM_SEED_SIZE + 32,
            load_public=_hybrid_public,
            load_private=_hybrid_private,
            dump_public=lambda pair: b"".join(key.public_key().public_bytes_raw() for key in pair),
            generate=lambda randomness: randomness(_MLKEM_SEED_SIZE + 32),
        ),
        P384: Kem(
            suite=_suite(KEM.P384),
            wrapped_size=145,
            public_size=97,
            private_size=48,
            load_public=lambda raw: ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), raw),
            load_private=_p384_private,
            dump_public=lambda private: private.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            ),
            generate=_p384_generate,
        ),
    }
)


def _info(bundle_id: bytes) -> bytes:
    return label("hpke") + bundle_id


@dataclass(frozen=True, slots=True)
class HpkeRecipient:
    """The holder of a private key, known by the public one.

    Args:
        type: `hpke-x25519`, `hpke-mlkem768x25519` or `hpke-p384`.
        public_key: raw, as in the table above.
        anonymous: leaves the key id out of the bundle, so that it does not tell for whom it is.
    """

    type: str
    public_key: bytes
    anonymous: bool = False

    def __post_init__(self) -> None:
        kem = KEMS.get(self.type)
        if kem is None or len(self.public_key) != kem.public_size:
            raise ValueError(f"not a raw public key of type {self.type}")
        kem.load_public(self.public_key)

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()

    def wrap(self, cek: bytes, bundle_id: bytes, randomness: Randomness) -> Stanza:
        """Wraps the content key; HPKE draws its own randomness."""
        del randomness
        kem = KEMS[self.type]
        wrapped = kem.suite.encrypt(cek, kem.load_public(self.public_key), info=_info(bundle_id))
        return Stanza(type=self.type, key_id=b"" if self.anonymous else self.key_id, params=(), wrapped=wrapped)


@dataclass(frozen=True, slots=True)
class HpkeIdentity:
    """A private key, raw as in the table above."""

    type: str
    private_key: bytes = field(repr=False)
    public_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        kem = KEMS.get(self.type)
        if kem is None or len(self.private_key) != kem.private_size:
            raise ValueError(f"not a raw private key of type {self.type}")
        object.__setattr__(self, "public_key", kem.dump_public(kem.load_private(self.private_key)))

    @classmethod
    def generate(cls, type: str, randomness: Randomness) -> HpkeIdentity:  # noqa: A002
        return cls(type, KEMS[type].generate(randomness))

    @property
    def recipient(self) -> HpkeRecipient:
        return HpkeRecipient(self.type, self.public_key)

    def unwrap(self, stanza: Stanza, bundle_id: bytes) -> bytes | None:
        kem = KEMS[self.type]
        ours = stanza.type == self.type and stanza.key_id in (b"", hashlib.sha256(self.public_key).digest())
        if not ours or len(stanza.wrapped) != kem.wrapped_size:
            return None
        private = kem.load_private(self.private_key)
        if self.type == HYBRID:
            private = MLKEM768X25519PrivateKey(*private)
        try:
            return kem.suite.decrypt(stanza.wrapped, private, info=_info(bundle_id))
        except (InvalidTag, ValueError):  # ValueError: the encapsulated key is no point of the curve
            return None
