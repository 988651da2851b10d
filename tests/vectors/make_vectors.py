"""Writes the test vectors: `python -m tests.vectors.make_vectors`, from the repository's root.

A vector is a text header, an empty line, and a bundle:

    expect: success | prologue | envelope | directory | index | payload | signature | no match
    comment: what it shows
    message: words in the error of sdkpack's own reader (other readers ignore this)
    key: a key that the reader holds, as a line of a key file; may repeat
    passphrase: a passphrase that the reader holds
    trust: a key whose signature is required; may repeat, then all of them must have signed
    identity: the bundle's identity, where it opens
    file: SHA-256 and path of a file inside, where it opens; may repeat
    compressed: zlib, where the bundle is stored compressed

Keys, salts and nonces are fixed. HPKE and ML-DSA draw randomness of their own: what they gave once is kept in
`recorded.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients import HpkeIdentity, Kek, PassphraseRecipient
from sdkpack.crypto.recipients.hpke import HYBRID, P384, X25519
from sdkpack.crypto.signature import ECDSA, ED25519, MLDSA, SigningKey
from tests.vectors import catalogue_bad, catalogue_good
from tests.vectors.forge import BUNDLE_ID, CEK, KEK

HERE = Path(__file__).parent
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A bundle and what a reader must make of it."""

    name: str
    comment: str
    data: bytes
    expect: str = "success"
    message: str = ""
    keys: tuple[str, ...] = ()
    passphrase: str = ""
    trust: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    identity: str = ""

    def encode(self) -> bytes:
        lines = [f"expect: {self.expect}", f"comment: {self.comment}"]
        lines += [f"message: {self.message}"] if self.message else []
        lines += [f"key: {key}" for key in self.keys]
        lines += [f"passphrase: {self.passphrase}"] if self.passphrase else []
        lines += [f"trust: {key}" for key in self.trust]
        lines += [f"identity: {self.identity}"] if self.identity else []
        lines += [f"file: {hashlib.sha256(data).hexdigest()} {path}" for path, data in self.files]
        lines += ["compressed: zlib"]
        return "\n".join(lines).encode() + b"\n\n" + zlib.compress(self.data, 9)


class Keys:
    """The fixed keys, and what was recorded of the randomised operations."""

    def __init__(self, recorded: dict[str, str]) -> None:
        self.recorded = recorded
        self.kek, self.other_kek = Kek(KEK), Kek(bytes(32))
        seed = {X25519: 32, HYBRID: 96, P384: 48}
        self.identities = {
            kem: HpkeIdentity(kem, (hashlib.sha512(kem.encode()).digest() * 2)[:size]) for kem, size in seed.items()
        }
        self.signing = {alg: SigningKey(alg, hashlib.sha256(alg.encode()).digest()) for alg in (ED25519, ECDSA, MLDSA)}

    def hpke_row(self, kem: str, *, anonymous: bool = False) -> list[Any]:
        recipient = self.identities[kem].recipient
        wrapped = self.record(kem, lambda: recipient.wrap(CEK, BUNDLE_ID, os.urandom).wrapped)
        return [kem, b"" if anonymous else recipient.key_id, [], wrapped]

    def scrypt_row(self, log2n: int = 10, passphrase: str = PASSPHRASE) -> list[Any]:
        return PassphraseRecipient(passphrase, log2n).wrap(CEK, BUNDLE_ID, lambda size: bytes(range(size))).as_row()

    def record(self, name: str, make: Any) -> bytes:
        if name not in self.recorded:
            self.recorded[name] = make().hex()
        return bytes.fromhex(self.recorded[name])

    def sign(self, alg: str, message: bytes) -> list[Any]:
        key = self.signing[alg]
        signature = self.record(alg, lambda: key.sign(message)) if alg == MLDSA else key.sign(message)
        return [alg, key.verifying_key.key_id, signature]

    def trust(self, *algs: str) -> tuple[str, ...]:
        return tuple(format_key(self.signing[alg].verifying_key) for alg in algs)


def make_all(recorded: dict[str, str]) -> list[Vector]:
    """Returns every vector; names are unique."""
    keys = Keys(recorded)
    vectors = [Vector(**fields) for fields in (*catalogue_good.make(keys), *catalogue_bad.make(keys))]
    if len({vector.name for vector in vectors}) != len(vectors):
        raise ValueError("two vectors have one name")
    return vectors


def load_recorded() -> dict[str, str]:
    path = HERE / "recorded.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    recorded = load_recorded()
    vectors = make_all(recorded)
    (HERE / "recorded.json").write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    for old in HERE.glob("*.sdkpack"):
        old.unlink()
    for vector in vectors:
        (HERE / f"{vector.name}.sdkpack").write_bytes(vector.encode())


if __name__ == "__main__":
    main()
