"""HPKE as it is used here, against the vectors of RFC 9180 and its own failure modes."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sdkpack.crypto.recipients import HpkeIdentity, HpkeRecipient, Stanza
from sdkpack.crypto.recipients.hpke import HYBRID, KEMS, P384, X25519

H = bytes.fromhex


def test_rfc_9180_a_1_base_mode() -> None:
    """A.1: X25519, HKDF-SHA256, AES-128-GCM, sequence number 0; the same code path with another AEAD."""
    private = x25519.X25519PrivateKey.from_private_bytes(
        H("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    )
    enc = H("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    sealed = H("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a")
    info, plain = H("4f6465206f6e2061204772656369616e2055726e"), b"Beauty is truth, truth beauty"
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    # The RFC's first message has the AAD "Count-0"; ours is always empty, so only the key schedule is shared.
    from cryptography.hazmat.bindings._rust import openssl

    assert openssl.hpke._decrypt_with_aad(suite, enc + sealed, private, info=info, aad=b"Count-0") == plain


@pytest.mark.parametrize("kem", sorted(KEMS))
def test_wrapping_is_bound_to_key_bundle_and_type(kem: str) -> None:
    identity = HpkeIdentity.generate(kem, os.urandom)
    stanza = identity.recipient.wrap(b"c" * 32, b"i" * 16, os.urandom)
    assert len(stanza.wrapped) == {X25519: 80, HYBRID: 1168, P384: 145}[kem]
    assert identity.unwrap(stanza, b"i" * 16) == b"c" * 32
    assert identity.unwrap(stanza, b"j" * 16) is None
    assert HpkeIdentity.generate(kem, os.urandom).unwrap(stanza, b"i" * 16) is None
    anonymous = HpkeRecipient(kem, identity.public_key, anonymous=True).wrap(b"c" * 32, b"i" * 16, os.urandom)
    assert anonymous.key_id == b""
    assert identity.unwrap(anonymous, b"i" * 16) == b"c" * 32
    for other in KEMS:
        if other != kem:
            moved = Stanza(type=other, key_id=b"", params=(), wrapped=stanza.wrapped)
            assert identity.unwrap(moved, b"i" * 16) is None


@pytest.mark.parametrize("kem", sorted(KEMS))
def test_any_changed_byte_of_a_wrapped_key_is_refused(kem: str) -> None:
    identity = HpkeIdentity.generate(kem, os.urandom)
    wrapped = identity.recipient.wrap(b"c" * 32, b"i" * 16, os.urandom).wrapped
    for at in range(0, len(wrapped), 1 if kem == X25519 else 29):
        changed = wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :]
        stanza = Stanza(type=kem, key_id=b"", params=(), wrapped=changed)
        # X25519 ignores the top bit of the share, but HPKE's transcript does not.
        assert identity.unwrap(stanza, b"i" * 16) is None


def test_private_keys_have_one_raw_form() -> None:
    for kem, form in KEMS.items():
        with pytest.raises(ValueError, match="raw private key"):
            HpkeIdentity(kem, bytes(form.private_size + 1))
        with pytest.raises(ValueError, match="raw public key"):
            HpkeRecipient(kem, bytes(form.public_size - 1))
    with pytest.raises(ValueError, match="raw public key"):
        HpkeRecipient("hpke-unknown", bytes(32))
