from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdkpack.errors import FileError, InputError, SdkpackError
from sdkpack.session.values import input_from_file, json_value, read_encoded
from sdkpack.types import ValueType
from tests.unit.session.bundles import npz

ARRAY = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["tensor(uint8, [1, 2, 3])", "image", "quad"])
def test_arrays_come_as_npy_or_npz(kind: str) -> None:
    for content in (npy(ARRAY), npz(anything=ARRAY)):
        np.testing.assert_array_equal(input_from_file(ValueType.parse(kind), content, where="x"), ARRAY)


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        ("image/encoded", b"\x89PNG", b"\x89PNG"),
        ("bytes", b"PK", b"PK"),
        ("string", "größe".encode(), "größe"),
        ("float", b"0.5", 0.5),
        ("bool", b"true", True),
        ("list(string)", b'["a", "b"]', ["a", "b"]),
        ("record(a: int)", b'{"a": 1}', {"a": 1}),
    ],
)
def test_other_values_by_their_kind(kind: str, content: bytes, value: object) -> None:
    assert input_from_file(ValueType.parse(kind), content, where="x") == value


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("tensor", b"text"),
        ("image", npz(a=ARRAY, b=ARRAY)),
        ("string", b"\xff"),
        ("float", b"{"),
        ("float", b"NaN"),
        ("list(int)", b"[" * 100_000),
    ],
)
def test_content_of_another_kind_is_refused(kind: str, content: bytes) -> None:
    with pytest.raises(SdkpackError, match="x"):
        input_from_file(ValueType.parse(kind), content, where="x")


def test_json_of_everything_a_pipeline_gives() -> None:
    @dataclass(frozen=True)
    class Geometry:
        scale: float

    value = {
        "lines": [{"text": "a", "score": np.float32(0.5), "box": np.zeros((2, 2), np.float32)}],
        "count": np.int64(3), "ok": np.bool_(True), "nothing": None, "raw": b"\x01\xff", "pair": (1, 2.5),
        "geometry": Geometry(2.0), "bad": float("nan"), "far": np.array([np.inf, 1.0]), "name": np.array(["x"], object),
    }  # fmt: skip
    assert json.loads(json.dumps(json_value(value), allow_nan=False)) == {
        "lines": [{"text": "a", "score": 0.5, "box": [[0.0, 0.0], [0.0, 0.0]]}],
        "count": 3, "ok": True, "nothing": None, "raw": "01ff", "pair": [1, 2.5],
        "geometry": {"scale": 2.0}, "bad": None, "far": [None, 1.0], "name": ["x"],
    }  # fmt: skip


def test_what_has_no_json_form_is_told() -> None:
    for value in (object(), {1, 2}, Path, 1j):
        with pytest.raises(InputError, match="no JSON form"):
            json_value(value)


def test_a_path_stands_for_encoded_bytes_alone(tmp_path: Path) -> None:
    encoded, file = ValueType(kind="image/encoded"), tmp_path / "page.png"
    file.write_bytes(b"PNG")
    assert read_encoded(file, encoded) == read_encoded(str(file), encoded) == read_encoded(b"PNG", encoded) == b"PNG"
    assert read_encoded("page.png", ValueType(kind="string")) == "page.png"


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for wrong in (tmp_path / "none.png", tmp_path, tmp_path / "fifo", "a\0b", "/dev/zero"):
        with pytest.raises(FileError):
            read_encoded(wrong, ValueType(kind="image/encoded"))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(FileError, match="expected at most"):
        read_encoded(tmp_path / "huge", ValueType(kind="image/encoded"))
