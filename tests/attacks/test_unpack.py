"""Unpacking writes beneath its folder and nowhere else, and gives a file its name only when it is verified."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sdkpack.bundle import TrustPolicy, VerifiedBundle, open_bundle
from sdkpack.bundle.paths import check_path, check_paths
from sdkpack.crypto.recipients import Kek
from sdkpack.errors import LimitError, OutputError, PathNameError, PayloadError
from tests.vectors.forge import KEK, Forge

if TYPE_CHECKING:
    from pathlib import Path

UNSIGNED = TrustPolicy(allow_unsigned=True)
DEVICES = [
    "con",
    "PRN",
    "aux.txt",
    "NUL",
    "nul.tar.gz",
    "com1",
    "COM9.log",
    "com0",
    "lpt1",
    "LPT9.x",
    "conin$",
    "CONOUT$",
]
HOSTILE = [
    "", ".", "..", "/", "//", "a//b", "/etc/passwd", "//server/share", "a/", "/a", "../a", "a/..", "a/../b",
    "a/../../b", "./a", "a/.", "a/./b", "..\\a", "a\\b", "\\\\server\\share", "C:", "C:a", "C:\\a", "c:/a",
    "a:stream", "a::$DATA", "a\0", "a\0.txt", "\0", "a\nb", "a\rb", "a\tb", "a b", " a", "a ", "a.", "a..",
    ".a", ".git/config", "a/.hidden", "a./b", "...", "....//", "%2e%2e/a", "%2e%2e%2fa", "%00", "~", "~/a",
    "~root/a", "$HOME/a", "a;b", "a|b", "a*", "a?", "<a>", '"a"', "a'b", "`a`", "\u202ea", "caf\u00e9",
    "cafe\u0301", "\uff0e\uff0e/a", "\u2215etc", "\u2024\u2024/a", "a\u200b", "\ufeffa", "\u0130", "a" * 256,
    "a/" * 600 + "a", "x" * 1025, "-\u00ad", "a\x7f", "a\x1b[0m", "@a", "a+b", *DEVICES,
    *(f"a/{device}/b" for device in DEVICES[:3]),
]  # fmt: skip
TWINS = [
    ["A", "a"], ["a", "a"], ["b", "a"], ["Model.bin", "model.bin"], ["a/X", "a/x"], ["A/x", "a/y"], ["a", "a/b"],
    ["A", "a/b"], ["a/B", "a/b/c"], ["a/b", "a/b/c/d"],
]  # fmt: skip


def verified(forge: Forge, *, check_blobs: bool = True) -> VerifiedBundle:
    return open_bundle(forge.build()).verify(policy=UNSIGNED, identities=[Kek(KEK)], check_blobs=check_blobs)


def named(*paths: str) -> Forge:
    rows = [[path, number, "a/b"] for number, path in enumerate(paths)]
    files = {f"f{number}": bytes([number]) for number in range(len(paths))}
    return Forge(files=files, encrypted=False, patch_index=lambda doc: {**doc, "files": rows})


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_there_are_enough_hostile_names() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(PathNameError) as caught:
        verified(named(name)).unpack(tmp_path / "out")
    assert caught.value.exit_code == 4
    assert tree(tmp_path) == []
    with pytest.raises(PathNameError):
        check_path(name)


@pytest.mark.parametrize("names", TWINS, ids=str)
def test_names_that_clash_on_some_system_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(PathNameError):
        verified(named(*names)).unpack(tmp_path / "out")
    with pytest.raises(PathNameError):
        check_paths(names)
    assert tree(tmp_path) == []


def test_ordinary_names_are_allowed() -> None:
    check_paths(sorted(["a", "b/c.d-e_f", "B2/x", "console.txt", "com10", "a-b/nulls", "x" * 255, "1"]))


@pytest.mark.parametrize("kind", ["folder", "file", "dangling"])
def test_nothing_is_written_through_seeded_links(kind: str, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    (out / "a").mkdir()
    target = {"folder": outside, "file": outside / "victim", "dangling": outside / "new"}[kind]
    link = out / "a" / ("b" if kind == "folder" else "model.bin")
    link.symlink_to(target)
    forge = Forge(files={"a/b/model.bin" if kind == "folder" else "a/model.bin": b"hostile"})
    with pytest.raises(OutputError):
        verified(forge).unpack(out)
    assert tree(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"untouched"


def test_existing_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"mine")
    os.link(tmp_path / "model.bin", tmp_path / "hardlink")
    with pytest.raises(OutputError, match="file exists"):
        verified(Forge(files={"model.bin": b"theirs"})).unpack(tmp_path)
    assert (tmp_path / "model.bin").read_bytes() == b"mine"


def test_no_plaintext_has_its_name_before_the_last_chunk_is_verified(tmp_path: Path) -> None:
    """A blob whose last chunk is wrong, unpacked without checking blobs beforehand."""

    def broken(rows: list[list[bytes]]) -> list[list[bytes]]:
        rows[1][0] = rows[1][0][:-1] + bytes([rows[1][0][-1] ^ 1])
        return rows

    forge = Forge(files={"a.txt": b"first", "b.bin": bytes(200_000)}, patch_blobs=broken)
    with pytest.raises(PayloadError):
        verified(forge, check_blobs=False).unpack(tmp_path / "out")
    assert tree(tmp_path) == ["out", "out/a.txt"]


def test_truncated_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.sdkpack"
    path.write_bytes(Forge(files={"b.bin": bytes(200_000)}).build())
    with open_bundle(path) as untrusted:
        bundle = untrusted.verify(policy=UNSIGNED, identities=[Kek(KEK)])
        os.truncate(path, 100_000)
        with pytest.raises(PayloadError, match="shorter"):
            bundle.unpack(tmp_path / "out")
        with pytest.raises(PayloadError):
            bundle.read("b.bin")
    assert tree(tmp_path / "out") == []


def test_many_names_on_one_blob_meet_the_quota(tmp_path: Path) -> None:
    rows = [[f"f{number:05}", 0, "a/b"] for number in range(3000)]
    forge = Forge(files={"data": bytes(1 << 20)}, encrypted=False, patch_index=lambda doc: {**doc, "files": rows})
    with pytest.raises(LimitError, match="quota"):
        verified(forge).unpack(tmp_path / "out")
    assert tree(tmp_path) == []
    small = Forge(files={"data": bytes(10)})
    with pytest.raises(LimitError, match="quota of 9"):
        verified(small).unpack(tmp_path / "out", quota_bytes=9)
    verified(small).unpack(tmp_path / "out", quota_bytes=10)
    assert tree(tmp_path / "out") == ["data"]
