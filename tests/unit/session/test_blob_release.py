"""A blob's memory can be given back early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.session.blobs import FileBlob

if TYPE_CHECKING:
    from pathlib import Path


def test_released_memory_is_loaded_anew(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    blob = FileBlob(tmp_path / "f")
    first = blob.memory()
    assert blob.memory() is first
    first[0:1] = b"K"

    blob.release()

    assert blob.memory() is not first
    assert bytes(blob.memory()) == b"content"
    assert bytes(first) == b"Kontent"  # who still holds it keeps it
