from __future__ import annotations

import ctypes
import fcntl
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdkpack.errors import BundleError, FileError, UsageError
from sdkpack.session.blobs import BundleBlob, FileBlob

CONTENT = bytes(range(256)) * 40


class Source:
    """A verified bundle of one file that counts how often it is decrypted."""

    def __init__(self, content: bytes, name: str, place: tuple[Path, int, int] | None = None) -> None:
        self.content, self.place, self.reads = content, place, 0
        self.files = {name: SimpleNamespace(size_bytes=len(content), media_type="application/octet-stream")}

    def read_into(self, path: str, buffer: memoryview) -> None:
        self.reads += 1
        buffer[:] = self.content

    def plain_range(self, path: str) -> tuple[Path, int, int] | None:
        return self.place


def blob(content: bytes = CONTENT, name: str = "models/net/weights.bin") -> BundleBlob:
    return BundleBlob(Source(content, name), name)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_240])
def test_memory_holds_the_content_aligned_and_writable(size: int) -> None:
    one = blob(CONTENT[:size])
    view = one.memory()
    assert bytes(view) == CONTENT[:size] and one.size_bytes == size
    if size:
        assert ctypes.addressof(ctypes.c_char.from_buffer(view)) % 4096 == 0
    assert not view.readonly
    one.close()


@pytest.mark.parametrize("size", [5000, 3 << 20])
def test_memory_is_left_out_of_core_dumps(size: int) -> None:
    one = blob(bytes(size))
    address = ctypes.addressof(ctypes.c_char.from_buffer(one.memory()))
    flags = ""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("VmFlags:"):
            flags = line
    assert " dd" in flags
    one.close()


def test_memory_is_decrypted_once() -> None:
    source = Source(CONTENT, "weights")
    one = BundleBlob(source, "weights")
    first, second = one.memory(), one.memory()
    one.path()
    assert first is second and source.reads == 1
    one.close()


def test_an_encrypted_blob_has_no_file_range_and_a_plain_one_its_place() -> None:
    place = (Path("x.sdkpack"), 64, 10)
    assert blob().file_range() is None
    assert BundleBlob(Source(b"x" * 10, "a", place), "a").file_range() == place


def test_path_is_sealed_keeps_the_suffix_and_ends_with_the_blob() -> None:
    one = blob(name="models/net/graph.onnx")
    path = one.path()
    assert path.suffix == ".onnx" and path.read_bytes() == CONTENT
    with path.open("rb") as stream:
        seals = fcntl.fcntl(stream.fileno(), fcntl.F_GET_SEALS)
    wanted = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert seals & wanted == wanted
    with pytest.raises(PermissionError), path.open("r+b") as stream:
        stream.write(b"x")
    folder = path.parent
    one.close()
    assert not path.exists() and not folder.exists()


def test_path_lies_in_memory_and_only_a_link_in_the_folder() -> None:
    one = blob(name="models/net/graph.onnx")
    path = one.path()
    assert path.is_symlink() and str(path.readlink()).startswith("/proc/self/fd/")
    assert str(path.readlink().readlink()).startswith("/memfd:")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    one.close()


def test_path_without_suffix_and_without_content() -> None:
    one = blob(b"", name="models/net/blob")
    assert one.path().read_bytes() == b""
    one.close()


def test_released_memory_is_loaded_again_and_lives_where_it_is_used() -> None:
    source = Source(CONTENT, "a")
    one = BundleBlob(source, "a")
    held = one.memory()
    one.release()
    assert bytes(one.memory()) == bytes(held) == CONTENT and source.reads == 2
    one.close()


def test_a_closed_blob_is_refused_and_closes_twice() -> None:
    one = blob()
    one.memory()
    one.close()
    one.close()
    with pytest.raises(UsageError, match="closed"):
        one.memory()
    with pytest.raises(UsageError, match="closed"):
        one.path()


def test_memory_in_use_survives_close() -> None:
    import numpy as np

    one = blob()
    array = np.frombuffer(one.memory(), np.uint8)
    one.close()
    assert array.tobytes() == CONTENT


def test_a_failed_fill_leaves_nothing_and_may_be_tried_again() -> None:
    class Broken(Source):
        def read_into(self, path: str, buffer: memoryview) -> None:
            if self.reads == 0:
                self.reads += 1
                raise FileError("gone")
            super().read_into(path, buffer)

    one = BundleBlob(Broken(CONTENT, "a"), "a")
    with pytest.raises(FileError):
        one.memory()
    assert bytes(one.memory()) == CONTENT
    one.close()


def test_file_blob_of_a_whole_file_and_of_a_range(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    whole, part = FileBlob(file), FileBlob(file, offset=100, length=50)
    assert whole.path() == file and whole.file_range() == (file, 0, len(CONTENT))
    assert bytes(whole.memory()) == CONTENT
    assert bytes(part.memory()) == CONTENT[100:150] and part.file_range() == (file, 100, 50)
    assert part.path().read_bytes() == CONTENT[100:150] and part.path().suffix == ".onnx"
    part.close()
    whole.close()
    assert file.exists()


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, 10_241), (10_240, 1), (5, -1)])
def test_file_blob_refuses_ranges_outside(tmp_path: Path, offset: int, length: int) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(CONTENT)
    with pytest.raises(FileError, match="10240 bytes"):
        FileBlob(file, offset=offset, length=length)


def test_file_blob_refuses_a_missing_file_and_a_file_that_shrinks(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    with pytest.raises(FileError, match="cannot read"):
        FileBlob(file)
    file.write_bytes(CONTENT)
    one = FileBlob(file)
    file.write_bytes(b"short")
    with pytest.raises(FileError, match="shorter"):
        one.memory()


def test_a_file_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="'b' that the bundle does not have"):
        BundleBlob(Source(b"", "a"), "b")
