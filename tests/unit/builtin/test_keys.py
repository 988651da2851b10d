from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdkpack.builtin.keys import EnvironmentKeys, FileKeys
from sdkpack.errors import KeyFileError, UsageError
from sdkpack.host.registry import Registry
from sdkpack.plugin import KeyProvider

SECRET = "sdkpack-secret-1:kek:aes-256-gcm:AAAA"
PUBLIC = "sdkpack-public-1:verifying:ed25519:AAAA"


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_reads_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"# public: {PUBLIC}\n{SECRET}\n"
    assert FileKeys().load(write(tmp_path / "a.key", text)) == text
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FileKeys().load("~/a.key") == text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    for text in (SECRET, f"{PUBLIC}\n{SECRET}\n", "anything else"):
        name = write(tmp_path / "a.key", text, mode)
        with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as caught:
            FileKeys().load(name)
        assert caught.value.hint == f"make it yours alone: chmod 600 {name}"


def test_public_keys_may_be_read_by_everybody(tmp_path: Path) -> None:
    text = f"# acme\n\n{PUBLIC}\n"
    assert FileKeys().load(write(tmp_path / "a.pub", text, 0o644)) == text


def test_through_a_link_the_file_itself_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.key", SECRET, 0o644)
    (tmp_path / "link").symlink_to(tmp_path / "a.key")
    with pytest.raises(KeyFileError, match="read by others"):
        FileKeys().load(str(tmp_path / "link"))


def test_what_is_no_key_file_is_told_without_its_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (1 << 21))
    for name in ("none", "fifo", "binary", "large", "."):
        with pytest.raises(KeyFileError) as caught:
            FileKeys().load(str(tmp_path / name))
        assert "xxx" not in str(caught.value)
    with pytest.raises(KeyFileError):
        FileKeys().load("a\0b")


def test_reads_a_variable() -> None:
    keys = EnvironmentKeys(lambda: {"A": SECRET, "EMPTY": " "})
    assert keys.load("A") == SECRET
    for name, state in (("B", "not set"), ("EMPTY", "empty")):
        with pytest.raises(KeyFileError, match=f"{name} is {state}") as caught:
            keys.load(name)
        assert f"export {name}=" in caught.value.hint


@pytest.mark.parametrize("keys", [FileKeys(), EnvironmentKeys()])
def test_they_only_load(keys: KeyProvider) -> None:
    assert isinstance(keys, KeyProvider)
    for use in (
        lambda: keys.wrap("a", b"", b""),
        lambda: keys.unwrap("a", b"", b""),
        lambda: keys.sign("a", b""),
        lambda: keys.public_key("a"),
    ):
        with pytest.raises(UsageError):
            use()


def test_the_schemes_are_registered() -> None:
    registry = Registry.of_modules(["sdkpack.builtin.plugin"])
    assert registry.key_provider("file").info.capabilities == ("load",)
    assert registry.key_provider("env").info.load == "sdkpack.builtin.keys:EnvironmentKeys"
