from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from sdkpack.errors import PayloadError
from sdkpack.session.npz import read_npy, read_npz
from tests.unit.session.bundles import npz

ARRAYS = {
    "f": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "scalar": np.array(5, np.int32),
    "empty": np.zeros((0, 4), np.float32),
    "text": np.array(["a", "bcd"]),
    "flags": np.array([True, False]),
    "weird/näme": np.array([1], ">i2"),
}


def npy(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    padded = (text + "\n").encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + body


def test_reads_what_numpy_writes() -> None:
    for content in (npz(**ARRAYS), _compressed()):
        read = read_npz(content, where="x")
        assert read.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype and read[name].shape == array.shape


def _compressed() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **ARRAYS)
    return stream.getvalue()


def test_objects_are_refused_unread() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    content = npy(np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(PayloadError, match="never unpickled"):
        read_npy(content, where="x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x03\x00" + bytes(10),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4)),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(5)),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}", bytes(4)),
        header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        header("__import__('os').abort()"),
        header("(" * 500),
    ],
)
def test_malformed_arrays_are_refused(content: bytes) -> None:
    with pytest.raises(PayloadError):
        read_npy(content, where="x")


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(3 << 20))
    assert len(stream.getvalue()) < 10_000
    with pytest.raises(PayloadError, match="more than 2097152 bytes"):
        read_npz(stream.getvalue(), where="x", max_bytes=2 << 20)


def test_a_member_longer_than_it_says_is_refused() -> None:
    content = bytearray(_compressed())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    with pytest.raises(PayloadError):
        read_npz(bytes(content), where="x")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_twice_and_other_files_are_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", npy(ARRAYS["f"]))
        archive.writestr("a.npy", npy(ARRAYS["scalar"]))
    for content in (stream.getvalue(), b"", b"PK\x05\x06", npz(**ARRAYS)[:-30]):
        with pytest.raises(PayloadError):
            read_npz(content, where="x")


def test_every_truncation_and_every_flipped_byte_is_read_or_refused() -> None:
    content = npz(a=np.arange(4, dtype=np.int16))
    for at in range(len(content)):
        for mutant in (content[:at], content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]):
            try:
                read_npz(mutant, where="x")
            except PayloadError:
                continue
