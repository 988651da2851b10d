"""No key and nonce ever meet two messages: GCM would give away both, and the power to forge."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, open_bundle, write_bundle
from sdkpack.bundle.index import Index, open_index
from sdkpack.bundle.rewrap import rekey, rewrap
from sdkpack.bundle.trust import TrustPolicy
from sdkpack.crypto import stream
from sdkpack.crypto.recipients import Kek, PassphraseRecipient, kek, scrypt
from sdkpack.errors import FileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

UNSIGNED = TrustPolicy(allow_unsigned=True)
LINE_KEY = b"l" * 32


class Recorder:
    """Stands before AESGCM and notes what each (key, nonce) sealed."""

    def __init__(self) -> None:
        self.seen: dict[tuple[bytes, bytes], bytes] = {}
        self.count = 0

    def __call__(self, key: bytes) -> Recorder.Cipher:
        return Recorder.Cipher(self, key)

    def note(self, key: bytes, nonce: bytes, plain: Any) -> None:
        digest = hashlib.sha256(plain).digest()
        assert self.seen.setdefault((key, nonce), digest) == digest, "one key and nonce, two messages"
        self.count += 1

    class Cipher:
        def __init__(self, recorder: Recorder, key: bytes) -> None:
            self.recorder, self.key, self.real = recorder, key, AESGCM(key)

        def encrypt(self, nonce: bytes, data: bytes, aad: None) -> bytes:
            self.recorder.note(self.key, nonce, data)
            return self.real.encrypt(nonce, data, aad)

        def encrypt_into(self, nonce: bytes, data: bytes, aad: None, out: Any) -> int:
            self.recorder.note(self.key, nonce, data)
            return self.real.encrypt_into(nonce, data, aad, out)

        def decrypt(self, *arguments: Any) -> bytes:
            return self.real.decrypt(*arguments)

        def decrypt_into(self, *arguments: Any) -> int:
            return self.real.decrypt_into(*arguments)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for module in (stream, kek, scrypt):
        monkeypatch.setattr(module, "AESGCM", recorder)
    return recorder


def content(*blobs: bytes) -> BundleContent:
    items = [
        FileItem(path=f"f{number}", media_type="a/b", source=BlobSource.from_bytes(blob))
        for number, blob in enumerate(blobs)
    ]
    return BundleContent(manifest={"name": "x"}, files=tuple(items))


def test_a_thousand_packs(recorder: Recorder, tmp_path: Path) -> None:
    key = Kek(b"k" * 32)
    same = b"the same in each bundle"
    for number in range(1000):
        packed = content(same, b"other %d" % (number // 2))
        recipients = (PassphraseRecipient("p", 1),) if number % 50 == 0 else (key,)
        if number % 3:
            write_bundle(packed, io.BytesIO(), seal=Seal(recipients=recipients))
        else:
            seal = Seal(recipients=recipients, line_key=LINE_KEY, chunk_log2=16 + number % 2)
            write_bundle(packed, tmp_path / "line.sdkpack", seal=seal, overwrite=True)
    assert recorder.count > 3000


def test_rewraps_rekeys_and_retries(recorder: Recorder, tmp_path: Path) -> None:
    key, path = Kek(b"k" * 32), tmp_path / "a.sdkpack"
    write_bundle(content(b"x" * 70_000), path, seal=Seal(recipients=(key,), chunk_log2=16))
    for _ in range(20):
        with open_bundle(path) as bundle:
            rewrap(bundle, path, identities=[key], recipients=[key], overwrite=True)
        with open_bundle(path) as bundle:
            rekey(bundle, path, policy=UNSIGNED, identities=[key], recipients=[key], overwrite=True)
    failures = iter([True, False] * 10)
    for _ in range(20):
        broken = BlobSource(size_bytes=5 if next(failures) else 4, open=lambda: io.BytesIO(b"four"))
        item = FileItem(path="f", media_type="a/b", source=broken)
        packed = BundleContent(manifest={}, files=(item,))
        try:
            write_bundle(packed, path, seal=Seal(recipients=(key,)), overwrite=True)
        except FileError:
            continue
    assert recorder.count > 80


def test_forked_packers_draw_other_keys(tmp_path: Path) -> None:
    key = Kek(b"k" * 32)
    for number in range(8):
        child = os.fork()
        if child == 0:
            write_bundle(content(b"x", b"y"), tmp_path / f"{number}.sdkpack", seal=Seal(recipients=(key,)))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    secrets: list[bytes] = []
    for path in tmp_path.iterdir():
        structure = open_bundle(path).structure
        schedule = structure.unseal([key])
        assert schedule is not None
        index = Index.decode(open_index(structure.raw_index, schedule), structure.directory, encrypted=True)
        secrets += [schedule.cek, structure.prologue.bundle_id, *(blob.key for blob in index.blobs)]
    assert len(secrets) == len(set(secrets)) == 8 * 4


class Changing:
    """A source that gives other bytes each time it is opened."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = iter(contents)

    def __call__(self) -> io.BytesIO:
        return io.BytesIO(next(self.contents))


@pytest.mark.parametrize(
    "second", [b"another content", b"short", b"much longer than it was"], ids=["changed", "shorter", "longer"]
)
def test_line_mode_destroys_the_output_of_a_source_that_changes(second: bytes, tmp_path: Path) -> None:
    first = b"the old content"
    source = BlobSource(size_bytes=len(first), open=Changing(first, second))
    packed = BundleContent(manifest={}, files=(FileItem(path="f", media_type="a/b", source=source),))
    seal = Seal(recipients=(Kek(b"k" * 32),), line_key=LINE_KEY)
    with pytest.raises(FileError, match="changed while packing"):
        write_bundle(packed, tmp_path / "x.sdkpack", seal=seal)
    assert list(tmp_path.iterdir()) == []


def test_line_mode_trusts_no_digest_from_elsewhere(tmp_path: Path) -> None:
    """A wrong digest would give two contents one key."""
    seal = Seal(recipients=(Kek(b"k" * 32),), line_key=LINE_KEY)
    wrong = BlobSource.from_bytes(b"content", sha256=hashlib.sha256(b"other").digest())
    packed = BundleContent(manifest={}, files=(FileItem(path="f", media_type="a/b", source=wrong),))
    write_bundle(packed, tmp_path / "a.sdkpack", seal=seal)
    write_bundle(content(b"content"), tmp_path / "b.sdkpack", seal=seal)
    first, second = (open_bundle(tmp_path / name).info.blobs for name in ("a.sdkpack", "b.sdkpack"))
    assert first[0][0] == second[0][0]


def test_line_mode_does_not_write_what_it_could_not_destroy() -> None:
    seal = Seal(recipients=(Kek(b"k" * 32),), line_key=LINE_KEY)
    out = io.BytesIO()
    with pytest.raises(UsageError, match="stream"):
        write_bundle(content(b"x"), out, seal=seal)
    assert out.getvalue() == b""


def test_line_mode_gives_equal_bytes_to_equal_content_alone(tmp_path: Path) -> None:
    seal = Seal(recipients=(Kek(b"k" * 32),), line_key=LINE_KEY)
    blobs = {}
    for number, packed in enumerate([content(b"same", b"a"), content(b"same", b"b")]):
        write_bundle(packed, tmp_path / f"{number}", seal=seal)
        blobs[number] = [blob[0] for blob in open_bundle(tmp_path / f"{number}").info.blobs]
    assert len({*blobs[0]} & {*blobs[1]}) == 1
