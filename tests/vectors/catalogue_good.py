"""The vectors that a reader must accept."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import TYPE_CHECKING, Any

from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients.hpke import HYBRID, P384, X25519
from sdkpack.crypto.signature import ECDSA, ED25519, MLDSA
from tests.vectors.forge import BUNDLE_ID, CEK, Forge, hkdf_expand, kek_row, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vectors.make_vectors import Keys

PASSPHRASE = "correct horse battery staple"
SMALL = {"labels.txt": b"cat\ndog\n", "model.bin": b"\x01\x02\x03"}


def pattern(size: int) -> bytes:
    """Bytes in which a moved chunk shows."""
    return b"".join(struct.pack("<I", number) for number in range(size // 4 + 1))[:size]


def message_of(forge: Forge) -> bytes:
    """The 148 bytes that a signature of the finished bundle covers."""
    data = forge.build()
    return b"sdkpack/1 signature\0" + data[:64] + forge.commit + data[-88:-56]


def good(forge: Forge, name: str, comment: str, **fields: Any) -> dict[str, Any]:
    identity = "sha256:" + hashlib.sha256(message_of(forge)).hexdigest()
    files = fields.pop("files", None) or tuple(sorted(forge.files.items()))
    return {"name": name, "comment": comment, "data": forge.build(), "files": files, "identity": identity, **fields}


def make(keys: Keys) -> Iterator[dict[str, Any]]:
    yield from _plain(keys)
    yield from _signed(keys)
    yield from _stream(keys)
    yield from _recipients(keys)
    yield from _versions(keys)


def _plain(keys: Keys) -> Iterator[dict[str, Any]]:
    del keys
    yield good(Forge(encrypted=False, files=SMALL), "plain_small", "two files, not encrypted")
    yield good(Forge(encrypted=False), "plain_no_files", "a manifest alone: the directory follows the prologue")
    yield good(Forge(encrypted=False, files={"empty": b""}), "plain_empty_file", "an empty plain blob stores no byte")
    yield good(
        Forge(encrypted=False, files={"a/b/c.txt": b"1", "a/d.txt": b"2", "z.txt": b"3"}),
        "plain_folders",
        "files in folders; gaps of up to 63 bytes between blobs",
    )
    yield good(
        Forge(encrypted=False, files={"large.bin": bytes(1 << 20), "small.bin": b"x"}),
        "plain_large_blob",
        "a blob of 1 MiB comes after the small ones and lies at a multiple of 65536",
    )
    shared = Forge(
        encrypted=False,
        files={"a.txt": b"same"},
        patch_index=lambda doc: {**doc, "files": [*doc["files"], ["b.txt", 0, "text/plain"]]},
    )
    both = (("a.txt", b"same"), ("b.txt", b"same"))
    yield good(shared, "plain_shared_blob", "two files of equal content share one blob", files=both)
    yield good(
        Forge(encrypted=False, files={"two.bin": pattern((1 << 20) + 5)}, chunk_hashes=True),
        "plain_chunk_hashes",
        "a digest for every 2^20 bytes of a plain blob",
    )
    manifest = {"deep": {"list": [[1.0, -2.5e300, True], {"b": b"\0", "i": -(1 << 63)}]}, "u": (1 << 64) - 1}
    yield good(
        Forge(encrypted=False, manifest=manifest),
        "plain_manifest_values",
        "every kind of value that a manifest may hold",
    )


def _signed(keys: Keys) -> Iterator[dict[str, Any]]:
    message = message_of(Forge(encrypted=False, files=SMALL))
    for alg in (ED25519, ECDSA, MLDSA):
        row = keys.sign(alg, message)
        forge = Forge(encrypted=False, files=SMALL, patch_signatures=lambda _, row=row: [row])
        yield good(forge, f"signed_{alg.split('-')[0]}", f"signed by {alg}", trust=keys.trust(alg))
    rows = sorted(keys.sign(alg, message) for alg in (ED25519, ECDSA, MLDSA))
    forge = Forge(encrypted=False, files=SMALL, patch_signatures=lambda _: rows)
    yield good(forge, "signed_threshold", "three signatures, all required", trust=keys.trust(ED25519, ECDSA, MLDSA))
    foreign = ["x-future", bytes(32), b"unknown"]
    forge = Forge(encrypted=False, files=SMALL, patch_signatures=lambda _: [keys.sign(ED25519, message), foreign])
    yield good(forge, "signed_unknown_alg", "a signature of an unknown algorithm is skipped", trust=keys.trust(ED25519))
    sealed = message_of(Forge(files=SMALL))
    forge = Forge(files=SMALL, patch_signatures=lambda _: [keys.sign(ED25519, sealed)])
    yield good(
        forge, "signed_encrypted", "signed and encrypted", trust=keys.trust(ED25519), keys=(format_key(keys.kek),)
    )


def _stream(keys: Keys) -> Iterator[dict[str, Any]]:
    key = (format_key(keys.kek),)
    sizes = {"empty": 0, "one_byte": 1, "chunk_less_one": 65535, "chunk": 65536, "chunk_and_one": 65537}
    for name, size in sizes.items():
        forge = Forge(files={"data.bin": pattern(size)})
        yield good(forge, f"stream_{name}", f"a blob of {size} bytes in chunks of 65536", keys=key)
    yield good(
        Forge(files={"data.bin": pattern(3 * 65536)}, chunk_hashes=True),
        "stream_three_chunks",
        "three full chunks, the last one flagged, with chunk hashes",
        keys=key,
    )
    yield good(Forge(files=SMALL, k=24), "stream_k24", "the largest chunk size, with little in it", keys=key)

    def line_key(rows: list[list[Any]]) -> list[list[Any]]:
        for row in rows:
            derived = hkdf_expand(bytes(range(200, 232)), label("line"))
            digest = hashlib.sha256(row[2]).digest()
            row[3] = hmac.digest(
                derived, label("blob") + bytes([16]) + struct.pack("<Q", len(row[2])) + digest, "sha256"
            )
            from tests.vectors.forge import seal_chunks

            row[0] = seal_chunks(row[3], row[2], 16)
        return rows

    yield good(
        Forge(files=SMALL, patch_blobs=line_key),
        "line_mode",
        "blob keys derived from the line key c8c9..e7; a reader sees no difference",
        keys=key,
    )


def _recipients(keys: Keys) -> Iterator[dict[str, Any]]:
    kek = (format_key(keys.kek),)
    anonymous = ["kek", b"", [], kek_row()[3]]
    yield good(Forge(files=SMALL, stanzas=[anonymous]), "kek_anonymous", "a kek stanza without a key id", keys=kek)
    both = [kek_row(kek=bytes(32)), kek_row()]
    yield good(Forge(files=SMALL, stanzas=both), "kek_second", "the second of two stanzas is ours", keys=kek)
    unknown = ["x-future", b"", [1, "a", b"b"], b"anything"]
    yield good(
        Forge(files=SMALL, stanzas=[unknown, kek_row()]), "stanza_unknown", "an unknown type is skipped", keys=kek
    )
    yield good(
        Forge(files=SMALL, stanzas=[keys.scrypt_row()]), "scrypt", "a passphrase, N = 2^10", passphrase=PASSPHRASE
    )
    for kem, name in ((X25519, "x25519"), (HYBRID, "hybrid"), (P384, "p384")):
        identity = (format_key(keys.identities[kem]),)
        forge = Forge(files=SMALL, stanzas=[keys.hpke_row(kem)])
        yield good(forge, name, f"a recipient of type {kem}", keys=identity)
        forge = Forge(files=SMALL, stanzas=[keys.hpke_row(kem, anonymous=True)])
        yield good(forge, f"{name}_anonymous", "without a key id", keys=identity)
    forge = Forge(files=SMALL, stanzas=[keys.hpke_row(HYBRID), kek_row()])
    yield good(forge, "hybrid_with_kek", "a kek may stand beside a hybrid", keys=kek)
    yield good(Forge(files=SMALL, data_offset=131072), "data_offset_131072", "room for recipients to come", keys=kek)


def _versions(keys: Keys) -> Iterator[dict[str, Any]]:
    forge = Forge(
        files=SMALL,
        patch_prologue=lambda raw: raw[:10] + struct.pack("<H", 7) + raw[12:],
        patch_directory=lambda doc: {**doc, "x-new": [1]},
        patch_index=lambda doc: {**doc, "x-new": {"a": "b"}},
    )
    yield good(forge, "newer_minor", "minor version 7 with x- keys is read", keys=(format_key(keys.kek),))
    other = Forge(files=SMALL, cek=hashlib.sha256(CEK).digest(), bundle_id=BUNDLE_ID[::-1])
    yield good(other, "other_keys", "another content key and bundle id", keys=(format_key(keys.kek),))
