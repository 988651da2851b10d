"""A second writer of the format, from FORMAT.md alone, that can also be made to break any one of its rules.

It shares no code with sdkpack, so agreement between the two says something; and unlike the real writer it seals and
signs whatever it is told to: what a malicious publisher or recipient could do.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEK = bytes(range(32))
SIGNING_KEY = bytes(range(32, 64))
CEK = bytes(range(64, 96))
BUNDLE_ID = bytes(range(96, 112))
MAGIC = bytes.fromhex("8953444b0d0a1a0a")

Patch = Callable[[Any], Any]


def label(text: str) -> bytes:
    return f"sdkpack/1 {text}".encode() + b"\0\1"


def hkdf_extract(salt: bytes, key: bytes) -> bytes:
    return hmac.digest(salt, key, "sha256")


def hkdf_expand(prk: bytes, info: bytes) -> bytes:
    return hmac.digest(prk, info + b"\1", "sha256")


def canonical(document: Any) -> bytes:
    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: ordered(value[key]) for key in sorted(value)}
        return [ordered(item) for item in value] if isinstance(value, (list, tuple)) else value

    return msgpack.packb(ordered(document))


def seal_chunks(key: bytes, plain: bytes, k: int) -> bytes:
    size = 1 << k
    chunks = [plain[at : at + size] for at in range(0, len(plain), size)] or [b""]
    return b"".join(
        AESGCM(key).encrypt(struct.pack(">3xQ?", number, number == len(chunks) - 1), chunk, None)
        for number, chunk in enumerate(chunks)
    )


def kek_row(cek: bytes = CEK, kek: bytes = KEK, bundle_id: bytes = BUNDLE_ID, nonce: bytes = bytes(12)) -> list[Any]:
    key = hkdf_expand(hkdf_extract(bundle_id, kek), label("kek"))
    key_id = hashlib.sha256(label("kek id") + kek).digest()
    return ["kek", key_id, [], nonce + AESGCM(key).encrypt(nonce, cek, None)]


def align(offset: int, to: int) -> int:
    return (offset + to - 1) // to * to


def same(value: Any) -> Any:
    return value


@dataclass(kw_only=True)
class Forge:
    """A bundle to be; every `patch_` sees a part before the parts that authenticate it are made."""

    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=lambda: {"name": "vector", "sequence": 1, "version": "1.0.0"})
    encrypted: bool = True
    k: int = 16
    stanzas: list[Any] | None = None
    signing_keys: tuple[bytes, ...] = ()
    chunk_hashes: bool = False
    data_offset: int = 65536
    cek: bytes = CEK
    bundle_id: bytes = BUNDLE_ID
    commit: bytes | None = None
    patch_prologue: Patch = same
    patch_body: Patch = same
    patch_envelope: Patch = same
    patch_blobs: Patch = same
    patch_directory: Patch = same
    patch_raw_directory: Patch = same
    patch_index: Patch = same
    patch_raw_index: Patch = same
    patch_signatures: Patch = same
    patch_raw_signatures: Patch = same
    patch_trailer: Patch = same
    patch_tail_mac: Patch = same
    gap: bytes = b"\0"

    def build(self) -> bytes:
        self._derive()
        self.prologue = self.patch_prologue(self._prologue())
        head = self.prologue + self._envelope()
        data, rows = self._blobs(head)
        directory = self.patch_raw_directory(canonical(self.patch_directory(self._directory(rows))))
        index = self.patch_raw_index(canonical(self.patch_index(self._index(rows))))
        if self.encrypted:
            salt = hashlib.sha256(b"index salt").digest()
            index = salt + seal_chunks(hkdf_expand(self.prk, label("index") + salt), index, 20)
        return data + directory + index + self._tail(len(data), directory, index)

    def _derive(self) -> None:
        self.prk = hkdf_extract(self.bundle_id, self.cek)
        if self.commit is None:
            self.commit = hkdf_expand(self.prk, label("commit")) if self.encrypted else bytes(32)

    def _prologue(self) -> bytes:
        if self.encrypted:
            return MAGIC + struct.pack("<HHIQ16s24x", 1, 0, 1, self.data_offset, self.bundle_id)
        return MAGIC + struct.pack("<HHIQ40x", 1, 0, 0, 64)

    def _envelope(self) -> bytes:
        if not self.encrypted:
            return b""
        rows = [kek_row(self.cek, KEK, self.bundle_id)] if self.stanzas is None else self.stanzas
        body = self.patch_body(canonical([1, self.commit, rows]))
        prefix = struct.pack("<I", len(body)) + body
        mac = hmac.digest(hkdf_expand(self.prk, label("mac")), self.prologue + prefix, "sha256")
        return self.patch_envelope((prefix + mac).ljust(self.data_offset - 64, b"\0"))

    def _blobs(self, head: bytes) -> tuple[bytes, list[list[Any]]]:
        """Returns the file up to the directory, and [stored, offset, plain, key, name] of each blob."""
        rows: list[list[Any]] = []
        for name in sorted(self.files):
            plain = self.files[name]
            key = hashlib.sha256(b"blob key " + name.encode()).digest() if self.encrypted else b""
            rows.append([seal_chunks(key, plain, self.k) if self.encrypted else plain, 0, plain, key, name])
        rows.sort(key=lambda row: len(row[0]) >= 1 << 20)
        rows = self.patch_blobs(rows)
        out = head
        for row in rows:
            row[1] = align(len(out), 65536 if len(row[0]) >= 1 << 20 else 64)
            out = out + self.gap * (row[1] - len(out)) + row[0]
        return out + self.gap * (align(len(out), 64) - len(out)), rows

    def _directory(self, rows: list[list[Any]]) -> dict[str, Any]:
        about = {name: self.manifest[name] for name in ("name", "version", "sequence") if name in self.manifest}
        blobs = [[hashlib.sha256(row[0]).digest(), row[1], len(row[0])] for row in rows]
        return {"about": about, "blobs": blobs, "v": 1}

    def _index(self, rows: list[list[Any]]) -> dict[str, Any]:
        k = self.k if self.encrypted else 20
        step = (1 << k) + (16 if self.encrypted else 0)
        hashes = b"".join(
            hashlib.sha256(row[0][at : at + step]).digest() for row in rows for at in range(0, len(row[0]), step)
        )
        blobs = [[len(row[2]), k, row[3], hashlib.sha256(row[2]).digest() if self.encrypted else b""] for row in rows]
        files = sorted([row[4], number, "application/octet-stream"] for number, row in enumerate(rows))
        return {
            "blobs": blobs,
            "chunk_hashes": hashes if self.chunk_hashes else b"",
            "files": files,
            "manifest": self.manifest,
            "v": 1,
        }

    def _tail(self, offset: int, directory: bytes, index: bytes) -> bytes:
        digest = hashlib.sha256(struct.pack("<Q", len(directory)) + directory + index).digest()
        message = b"sdkpack/1 signature\0" + self.prologue + self.commit + digest
        rows = []
        for secret in self.signing_keys:
            key = Ed25519PrivateKey.from_private_bytes(secret)
            key_id = hashlib.sha256(key.public_key().public_bytes_raw()).digest()
            rows.append(["ed25519", key_id, key.sign(message)])
        signatures = self.patch_raw_signatures(canonical(self.patch_signatures(sorted(rows))))
        mac = hmac.digest(hkdf_expand(self.prk, label("tail")), message, "sha256") if self.encrypted else bytes(32)
        lengths = (offset, len(directory), len(index), len(signatures))
        size = sum(lengths) + 128
        trailer = struct.pack("<5Q", *lengths, size) + digest + self.patch_tail_mac(mac) + bytes(16) + MAGIC[::-1]
        return signatures + self.patch_trailer(trailer)
