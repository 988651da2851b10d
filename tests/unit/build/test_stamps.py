"""Digests of large files are remembered only while nothing can have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sdkpack.build import stamps
from sdkpack.build.digests import stamp_file
from sdkpack.build.stamps import StampMemory
from sdkpack.bundle.files import FileSystem
from sdkpack.errors import FileError


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    seen: list[Path] = []

    def counted(path: Path):  # type: ignore[no-untyped-def]
        seen.append(path)
        return stamp_file(path)

    monkeypatch.setattr(stamps, "stamp_file", counted)
    monkeypatch.setattr(stamps, "_FROM_BYTES", 10)
    return seen


def later() -> int:
    return time.time_ns() + 10_000_000_000


@pytest.fixture
def memory(tmp_path: Path) -> StampMemory:
    (tmp_path / "stamps").mkdir()
    return StampMemory(tmp_path / "stamps", FileSystem(), clock=later)


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, memory: StampMemory, hashed: list[Path]) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    assert memory.stamp(path) == memory.stamp(path) == stamp_file(path)
    assert len(hashed) == 1


def test_a_change_with_the_old_time_put_back_is_seen(tmp_path: Path, memory: StampMemory, hashed: list[Path]) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    old = memory.stamp(path)
    status = path.stat()
    path.write_bytes(b"b" * 100)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert memory.stamp(path).digest != old.digest
    assert len(hashed) == 2


def test_another_file_under_the_name_is_seen(tmp_path: Path, memory: StampMemory) -> None:
    path, other = tmp_path / "weights", tmp_path / "other"
    path.write_bytes(b"a" * 100)
    old = memory.stamp(path)
    other.write_bytes(b"b" * 100)
    other.rename(path)
    assert memory.stamp(path).digest != old.digest


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path, hashed: list[Path]) -> None:
    (tmp_path / "stamps").mkdir()
    memory = StampMemory(tmp_path / "stamps", FileSystem())
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    memory.stamp(path)
    memory.stamp(path)
    assert len(hashed) == 2


def test_small_files_are_always_hashed(tmp_path: Path, memory: StampMemory, hashed: list[Path]) -> None:
    path = tmp_path / "labels"
    path.write_bytes(b"a")
    memory.stamp(path)
    memory.stamp(path)
    assert len(hashed) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"facts": {}}', b'{"facts": 1, "stamp": 2}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, memory: StampMemory, hashed: list[Path], damage: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    memory.stamp(path)
    (record,) = (tmp_path / "stamps").iterdir()
    record.write_bytes(damage)
    assert memory.stamp(path) == stamp_file(path)
    assert len(hashed) == 2


def test_a_missing_file_is_told(tmp_path: Path, memory: StampMemory) -> None:
    with pytest.raises(FileError):
        memory.stamp(tmp_path / "nothing")
