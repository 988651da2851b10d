"""Files appear whole; temporary ones of the dead are cleaned, those of the living are not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sdkpack.bundle.files import AtomicFile, FileSystem, atomic_file
from sdkpack.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_has_the_name_before_the_end(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as out:
        out.write(b"one")
        out.write(memoryview(b"two"))
        assert "a" not in names(tmp_path)
        assert out.size_bytes == 6
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), atomic_file(tmp_path / "a", overwrite=True) as out:
        out.write(b"new")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = tmp_path / f".sdkpack-{'0' * 16}.part"
    dead.write_bytes(b"half")
    (tmp_path / f".sdkpack-{'1' * 16}.part").symlink_to("/dev/null")
    (tmp_path / ".sdkpack-mine.part").write_bytes(b"not ours")
    folder = os.open(tmp_path, os.O_RDONLY)
    living = AtomicFile(FileSystem(), folder, "b", 0o600)
    with atomic_file(tmp_path / "a") as out:
        out.write(b"x")
    assert not dead.exists()
    assert len([name for name in names(tmp_path) if name.endswith(".part")]) == 3
    living.commit(overwrite=False)
    living.close()
    os.close(folder)
    assert (tmp_path / "b").exists()


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "a"):
            pass
        with atomic_file(tmp_path / "b", mode=0o600):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    with atomic_file(tmp_path / "a", overwrite=True) as out:
        out.write(b"new")
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert not (tmp_path / "a").is_symlink()


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="file exists"), atomic_file(tmp_path / "a") as out:
        out.write(b"ours")
        (tmp_path / "a").write_bytes(b"theirs")
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


class NoLinks(FileSystem):
    """A file system without hard links, or locks."""

    def link(self, old: str, new: str, *, dir_fd: int) -> None:
        raise OSError(errno.EPERM, "no hard links")

    def lock(self, fd: int) -> bool:
        raise OSError(errno.ENOLCK, "no locks")


def test_file_systems_without_links_and_locks_work(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a", files=NoLinks()) as out:
        out.write(b"x")
    assert names(tmp_path) == ["a"]
    with pytest.raises(OutputError, match="file exists"), atomic_file(tmp_path / "b", files=NoLinks()) as out:
        (tmp_path / "b").write_bytes(b"theirs")
    assert (tmp_path / "b").read_bytes() == b"theirs"


def test_relative_names_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_file(Path("a")) as out:
        out.write(b"x")
    assert names(tmp_path) == ["a"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(5):
        with atomic_file(tmp_path / str(number)):
            pass
        with pytest.raises(OutputError), atomic_file(tmp_path / str(number)):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
