"""Keys as text: what is written is read, and nothing else is."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from sdkpack.crypto.keyfile import Key, format_key, parse_keys, public_part, read_key_file, write_key_file
from sdkpack.crypto.keys import LineKey
from sdkpack.crypto.recipients import HpkeIdentity, Kek
from sdkpack.crypto.recipients.hpke import KEMS
from sdkpack.crypto.signature import ALGORITHMS, SigningKey
from sdkpack.errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

SECRETS: list[Key] = [
    *(HpkeIdentity.generate(kem, os.urandom) for kem in KEMS),
    *(SigningKey.generate(alg, os.urandom) for alg in ALGORITHMS),
    Kek(os.urandom(32)),
    LineKey(os.urandom(32)),
]
PUBLICS = [public for key in SECRETS if (public := public_part(key)) is not None]


@pytest.mark.parametrize("key", [*SECRETS, *PUBLICS], ids=lambda key: format_key(key).rpartition(":")[0])
def test_a_key_comes_back(key: Key, tmp_path: Path) -> None:
    line = format_key(key)
    assert line.startswith("sdkpack-public-1:" if key in PUBLICS else "sdkpack-secret-1:")
    assert parse_keys(line, where="text") == (key,)
    write_key_file(tmp_path / "key", key, comment="made for a test\nof two lines")
    assert read_key_file(tmp_path / "key") == (key,)
    assert (tmp_path / "key").stat().st_mode & 0o777 == (0o644 if key in PUBLICS else 0o600)
    with pytest.raises(KeyFileError, match="file exists"):
        write_key_file(tmp_path / "key", key)


def test_the_form_is_fixed() -> None:
    assert format_key(Kek(bytes(range(32)))) == (
        "sdkpack-secret-1:kek:aes-256-gcm:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8C_9Gw"
    )


def test_files_hold_several_keys_and_comments() -> None:
    text = "# first\n\n" + "\n".join(format_key(key) for key in SECRETS) + "\n  \n# last"
    assert parse_keys(text, where="text") == tuple(SECRETS)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o601])
def test_secrets_that_others_can_reach_are_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key_file(path, SECRETS[0])
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="readable by others") as caught:
        read_key_file(path)
    assert caught.value.hint == f"chmod 600 '{path}'"
    path.chmod(0o600)
    assert read_key_file(path) == (SECRETS[0],)


def test_public_keys_may_be_read_by_all(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key.pub", PUBLICS[0])
    (tmp_path / "key.pub").chmod(0o666)
    assert read_key_file(tmp_path / "key.pub") == (PUBLICS[0],)


@pytest.mark.parametrize("key", SECRETS, ids=lambda key: format_key(key).rpartition(":")[0])
def test_damage_is_refused_and_no_message_shows_the_secret(key: Key) -> None:
    line = format_key(key)
    prefix, _, data = line.rpartition(":")
    damaged = [
        line[:-1], line[:-6], f"{prefix}:{data[:-1]}!", f"{prefix}:{data}AAAA", f"{prefix}:", f"x{line}", data,
        line.replace("secret", "public"), line.replace("-1:", "-2:"), line.replace(prefix.split(":")[2], "rot13"),
        f"{prefix}:{'B' if data[3] != 'B' else 'C'}{data[1:]}" if data[0] not in "BC" else f"{prefix}:A{data[1:]}",
    ]  # fmt: skip
    for text in damaged:
        with pytest.raises(KeyFileError) as caught:
            parse_keys(text, where="the variable KEY")
        assert "the variable KEY, line 1" in str(caught.value)
        assert data[:16] not in str(caught.value)
        assert caught.value.__cause__ is None


def test_what_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such file"):
        read_key_file(tmp_path / "missing")
    with pytest.raises(KeyFileError, match="no key"):
        parse_keys("# only a comment", where="x")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(KeyFileError, match="not text"):
        read_key_file(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(KeyFileError, match="longer"):
        read_key_file(tmp_path / "large")
    with pytest.raises(KeyFileError):
        read_key_file(tmp_path)


def test_keys_of_wrong_length_are_refused() -> None:
    import hashlib

    prefix = "sdkpack-secret-1:kek:aes-256-gcm:"
    raw = bytes(31)
    data = raw + hashlib.sha256(prefix.encode() + raw).digest()[:4]
    with pytest.raises(KeyFileError, match="not a kek key of type aes-256-gcm"):
        parse_keys(prefix + base64.urlsafe_b64encode(data).decode().rstrip("="), where="x")
