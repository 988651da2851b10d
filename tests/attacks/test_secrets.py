"""Keys and plaintext appear in no message, no representation, no trace, and not on disk."""

from __future__ import annotations

import base64
import io
import os
import traceback
from pathlib import Path

import pytest

from sdkpack.bundle import BundleContent, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients import HpkeIdentity, Kek, PassphraseIdentity, PassphraseRecipient, PluginIdentity
from sdkpack.crypto.signature import SigningKey
from sdkpack.errors import SdkpackError
from tests.attacks.conftest import CANARY
from tests.vectors.forge import Forge

UNSIGNED = TrustPolicy(allow_unsigned=True)
SECRET = b"SECRET-KEY-of-32-bytes-CANARY-xy"
FORMS = (SECRET, SECRET.hex().encode(), base64.b64encode(SECRET)[:40], base64.urlsafe_b64encode(SECRET)[:40])


def shows_secret(text: str) -> bool:
    raw = text.encode("utf-8", "backslashreplace")
    return any(form in raw for form in FORMS) or CANARY[:30] in raw


def test_failures_say_nothing_of_keys(content: BundleContent) -> None:
    out = io.BytesIO()
    kek, signer = Kek(SECRET), SigningKey("ed25519", SECRET)
    write_bundle(content, out, seal=Seal(recipients=(kek,)), signers=[signer])
    data = out.getvalue()
    held = [kek, HpkeIdentity("hpke-x25519", SECRET), PassphraseIdentity(SECRET.decode())]
    places = (9, 70, 150, 65540, len(data) - 400, len(data) - 60)
    flipped = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places]
    other = Forge(files={"a": CANARY}).build()
    for mutant in (*flipped, other, data[:-1]):
        with pytest.raises(SdkpackError) as caught:
            open_bundle(mutant).verify(policy=UNSIGNED, identities=held)
        error = caught.value
        told = [str(error), repr(error), error.hint, str(error.as_dict()), *traceback.format_exception(error)]
        assert not shows_secret("\n".join(told))


def test_objects_do_not_show_their_secrets(content: BundleContent) -> None:
    kek = Kek(SECRET)
    seal = Seal(recipients=(kek, Kek(SECRET)), line_key=SECRET)
    out = io.BytesIO()
    summary = write_bundle(content, out, seal=Seal(recipients=(kek,)), signers=[SigningKey("ed25519", SECRET)])
    untrusted = open_bundle(out.getvalue())
    verified = untrusted.verify(policy=UNSIGNED, identities=[kek])
    schedule = untrusted.structure.unseal([kek])
    shown = [
        seal, kek, summary, untrusted, untrusted.info, untrusted.structure, verified, verified.files, schedule,
        content, HpkeIdentity("hpke-x25519", SECRET), PassphraseRecipient(SECRET.decode()),
        PassphraseIdentity(SECRET.decode()), SigningKey("ecdsa-p256-sha256", SECRET),
        PluginIdentity("kms", lambda params, wrapped, context: None),
    ]  # fmt: skip
    for thing in shown:
        assert not shows_secret(repr(thing)), type(thing)
        assert not shows_secret(str(thing)), type(thing)


def test_the_canary_would_be_found() -> None:
    assert shows_secret(f"x {SECRET.hex()} y")
    assert shows_secret(format_key(Kek(SECRET)))
    assert shows_secret(repr(SECRET))


def bytes_written() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["wchar"])


def test_loading_writes_nothing(content: BundleContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, work = tmp_path / "a.sdkpack", tmp_path / "work"
    work.mkdir()
    kek = Kek(SECRET)
    write_bundle(content, path, seal=Seal(recipients=(kek,), chunk_log2=16), chunk_hashes=True)
    for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(work))
    monkeypatch.chdir(work)
    before = bytes_written()
    with open_bundle(path) as untrusted:
        bundle = untrusted.verify(policy=UNSIGNED, identities=[kek])
        for name in bundle.files:
            assert bundle.read(name).startswith(CANARY)
            bundle.load(name)
            bundle.stream(name, len)
    assert bytes_written() == before
    assert list(work.iterdir()) == []
    assert CANARY[:30] not in path.read_bytes()


def test_encrypted_bundles_show_no_names_of_files(content: BundleContent, tmp_path: Path) -> None:
    path = tmp_path / "a.sdkpack"
    write_bundle(content, path, seal=Seal(recipients=(Kek(os.urandom(32)),)))
    data = path.read_bytes()
    for item in content.files:
        assert item.path.encode() not in data
        assert item.media_type.encode() not in data
