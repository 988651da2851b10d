"""Known answers for the primitives as they are used here, and for our own labels and nonces.

Sources: RFC 5869 appendix A, NIST GCM test vectors (gcmEncryptExtIV256), RFC 7914 section 12, RFC 8032 section 7.1,
RFC 9180 appendix A. What has no published vector is held against the standard library's hmac and hashlib.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sdkpack.crypto import keys, signature
from sdkpack.crypto.recipients import Kek, PassphraseIdentity, PassphraseRecipient
from sdkpack.crypto.stream import ChunkCipher, chunk_nonce, stored_size

H = bytes.fromhex


def test_hkdf_rfc_5869_case_1() -> None:
    ikm, salt, info = b"\x0b" * 22, H("000102030405060708090a0b0c"), H("f0f1f2f3f4f5f6f7f8f9")
    prk = HKDF.extract(SHA256(), salt, ikm)
    assert prk == H("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = H("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    assert HKDFExpand(SHA256(), 42, info).derive(prk) == okm
    assert keys.hkdf(ikm, salt=salt, info=info) == okm[:32]


def test_aes_256_gcm_nist() -> None:
    empty = AESGCM(H("b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4"))
    assert empty.encrypt(H("516c33929df5a3284ff463d7"), b"", None) == H("bdc1ac884d332457a1d2664f168c76f0")
    full = AESGCM(H("31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22"))
    sealed = H("fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489")
    plain = H("2db5168e932556f8089a0622981d017d")
    assert full.encrypt(H("0d18e06c7c725ac9e362e1ce"), plain, None) == sealed


def test_scrypt_rfc_7914() -> None:
    expected = H(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    assert Scrypt(salt=b"SodiumChloride", length=64, n=16384, r=8, p=1).derive(b"pleaseletmein") == expected


def test_ed25519_rfc_8032_test_3() -> None:
    key = signature.SigningKey("ed25519", H("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
    assert key.public_key == H("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    assert key.sign(H("af82")) == H(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


def test_ecdsa_p256_rfc_6979_sample() -> None:
    """Appendix A.2.5, SHA-256, message "sample"; its s is above n/2 and is turned into the smaller one."""
    key = signature.SigningKey(
        "ecdsa-p256-sha256", H("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
    )
    assert key.public_key[1:33] == H("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6")
    r = H("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")
    s = int("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8", 16)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    assert key.sign(b"sample") == r + (order - s).to_bytes(32, "big")
    with pytest.raises(signature.InvalidSignature):
        key.verifying_key.verify(b"sample", r + s.to_bytes(32, "big"))


def test_nonces() -> None:
    assert chunk_nonce(0, last=True) == H("000000000000000000000001")
    assert chunk_nonce(1, last=False) == H("000000000000000000000100")
    assert chunk_nonce((1 << 64) - 1, last=True) == H("000000ffffffffffffffff01")
    with pytest.raises(OverflowError):
        chunk_nonce(1 << 64, last=False)


def test_labels_and_schedule() -> None:
    assert keys.label("tail") == b"sdkpack/1 tail\0\1"
    schedule = keys.KeySchedule(bytes(range(32)), bytes(range(16)))
    prk = hmac.digest(bytes(range(16)), bytes(range(32)), "sha256")

    def expand(info: bytes) -> bytes:
        return hmac.digest(prk, info + b"\1", "sha256")

    assert schedule.commit == expand(b"sdkpack/1 commit\0\1")
    assert schedule.index_key(b"s" * 32) == expand(b"sdkpack/1 index\0\1" + b"s" * 32)
    assert schedule.envelope_mac(b"x") == hmac.digest(expand(b"sdkpack/1 mac\0\1"), b"x", "sha256")
    assert schedule.tail_mac(b"x") == hmac.digest(expand(b"sdkpack/1 tail\0\1"), b"x", "sha256")
    assert schedule.commit.hex() == "5c2270b97a165a5870adc93a33dcc5531463e43a919515c5dda051c2f4f8faf5"


def test_line_key() -> None:
    line = hmac.digest(bytes(32), b"sdkpack/1 line\0\1" + b"\1", "sha256")
    digest = hashlib.sha256(b"plain").digest()
    message = b"sdkpack/1 blob\0\1" + b"\x14" + (5).to_bytes(8, "little") + digest
    derived = keys.LineKey(bytes(32)).blob_key(plain_sha256=digest, size=5, chunk_log2=20)
    assert derived == hmac.digest(line, message, "sha256")


def test_kek_and_passphrase_by_hand() -> None:
    cek, bundle_id = b"c" * 32, b"i" * 16
    stanza = Kek(b"k" * 32).wrap(cek, bundle_id, lambda size: b"n" * size)
    key = keys.hkdf(b"k" * 32, salt=bundle_id, info=b"sdkpack/1 kek\0\1")
    assert stanza.wrapped == b"n" * 12 + AESGCM(key).encrypt(b"n" * 12, cek, None)
    assert stanza.key_id == hashlib.sha256(b"sdkpack/1 kek id\0\1" + b"k" * 32).digest()
    stanza = PassphraseRecipient("caf\u00e9", 4).wrap(cek, bundle_id, lambda size: b"s" * size)
    salt = b"sdkpack/1 scrypt\0" + bundle_id + b"s" * 16
    key = hashlib.scrypt("caf\u00e9".encode(), salt=salt, n=16, r=8, p=1, dklen=32)
    assert stanza.wrapped == AESGCM(key).encrypt(bytes(12), cek, None)
    assert PassphraseIdentity("caf\u00e9").unwrap(stanza, bundle_id) == cek
    assert PassphraseIdentity("cafe").unwrap(stanza, bundle_id) is None


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 200000])
def test_chunks_come_back_and_know_their_place(size: int) -> None:
    cipher = ChunkCipher(b"k" * 32, size, 16)
    plain = bytes(number % 251 for number in range(size))
    stored = bytearray(cipher.stored)
    for number in range(cipher.count):
        at, length = cipher.plain_span(number)
        start, stored_length = cipher.stored_span(number)
        cipher.encrypt_into(number, plain[at : at + length], memoryview(stored)[start : start + stored_length])
    assert len(stored) == stored_size(size, 16) == size + 16 * max(1, -(-size // 65536))
    out = bytearray(size)
    for number in range(cipher.count):
        at, length = cipher.plain_span(number)
        start, stored_length = cipher.stored_span(number)
        chunk = memoryview(stored)[start : start + stored_length]
        cipher.decrypt_into(number, chunk, memoryview(out)[at : at + length])
        with pytest.raises(InvalidTag):
            ChunkCipher(b"k" * 32, size + 2 * 65536, 16).decrypt_into(number + 1, chunk, bytearray(length))
        with pytest.raises(InvalidTag):
            cipher.decrypt_into(number, chunk[:-1], bytearray(max(0, length - 1)))
    assert bytes(out) == plain


@pytest.mark.parametrize(
    ("key", "size", "log2"),
    [(b"k" * 16, 1, 16), (b"k" * 32, -1, 16), (b"k" * 32, (1 << 40) + 1, 16), (b"k" * 32, 1, 15)],
)
def test_cipher_refuses_what_the_format_does_not_allow(key: bytes, size: int, log2: int) -> None:
    with pytest.raises(ValueError, match=r"key|size"):
        ChunkCipher(key, size, log2)


def test_secrets_are_not_shown() -> None:
    secret = bytes(range(100, 132))
    shown = [
        repr(Kek(secret)),
        repr(keys.LineKey(secret)),
        repr(keys.KeySchedule(secret, bytes(16))),
        repr(ChunkCipher(secret, 1)),
        repr(signature.SigningKey("ed25519", secret)),
        repr(PassphraseRecipient("hunter2")),
        repr(PassphraseIdentity("hunter2")),
    ]
    for text in shown:
        assert "hunter2" not in text
        assert repr(secret)[2:10] not in text
        assert secret.hex()[:8] not in text
