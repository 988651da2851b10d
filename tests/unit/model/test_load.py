"""Reading model files, and what is said of files that are none."""

from __future__ import annotations

import io
import os
import pickle  # noqa: TID251 - the test makes what the code must refuse to load
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdkpack.errors import FileError, ModelError, SdkpackError
from sdkpack.model.check import check_model, check_split
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import describe
from sdkpack.model.load import MAX_MODEL_BYTES, load_model, parse_model
from sdkpack.model.split import split_model
from tests.unit.model.models import matmul

if TYPE_CHECKING:
    from pathlib import Path


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return buffer.getvalue()


OTHER_FILES = {
    "an empty file": b"",
    "a text file": b"def hello():\n    pass\n",
    "an HTML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a ZIP archive": _zip(),
    "a Python pickle": pickle.dumps({"state": [1, 2, 3]}),
    "a FlatBuffers file of the kind 'TFL3'": b"\x1c\0\0\0TFL3" + bytes(64),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "tensors behind a JSON header": (16).to_bytes(8, "little") + b'{"w":{"dtype":1}}' + bytes(64),
    "a file of the kind 'GGUF'": b"GGUF\x03\0\0\0" + bytes(64),
    "an XML file": b"<?xml version='1.0'?><net/>",
    "an sdkpack bundle": b"\x89SDK\r\n\x1a\n" + bytes(120),
    "data of another kind": b"\x0a\x03abc\x12\x01x",
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_says_what_another_file_looks_like(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(OTHER_FILES[what])

    with pytest.raises(ModelError, match=f"not an ONNX model: it looks like {what}") as caught:
        load_model(path)

    assert caught.value.where == str(path)
    assert caught.value.hint


def test_loads_a_model_and_keeps_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(matmul().SerializeToString())

    model = load_model(path)

    assert model.folder == tmp_path
    assert model.size_bytes == path.stat().st_size
    assert [node.op_type for node in model.proto.graph.node] == ["MatMul", "Add"]


def test_every_truncation_is_refused_or_leaves_whole_fields() -> None:
    data = matmul(rows=4, cols=4).SerializeToString()
    refused = 0
    for end in range(len(data)):
        try:
            parse_model(data[:end])
        except ModelError:
            refused += 1
    # A file cut exactly after the graph lacks only the opset import, which is refused too.
    assert refused == len(data)


def test_a_truncated_model_says_where() -> None:
    data = matmul().SerializeToString()
    with pytest.raises(ModelError, match=r"truncated: the field at byte \d+ ends at byte \d+, the file at byte 9000"):
        parse_model(data[:9000])


def test_a_missing_file_a_folder_and_a_fifo_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileError, match="no such file"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(FileError, match="not a regular file"):
        load_model(tmp_path)
    with pytest.raises(FileError, match="not a regular file"):
        load_model(tmp_path / "fifo")


def test_a_model_over_two_gibibytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.write(matmul().SerializeToString())
        file.truncate(MAX_MODEL_BYTES + 1)

    with pytest.raises(ModelError, match="too large for protobuf, got 2147483648 bytes") as caught:
        load_model(path)

    assert "save_as_external_data" in caught.value.hint


def test_a_newer_opset_says_which_is_supported() -> None:
    model = matmul()
    model.opset_import[0].version = 900
    with pytest.raises(
        ModelError, match=r"opset 900 of domain 'ai\.onnx' is not supported, expected 1 to \d+"
    ) as caught:
        parse_model(model.SerializeToString())
    assert "upgrade onnx" in caught.value.hint


def test_a_newer_or_ancient_ir_version_is_refused() -> None:
    model = matmul()
    model.ir_version = 99
    with pytest.raises(ModelError, match="IR version 99 is newer"):
        parse_model(model.SerializeToString())
    model.ir_version = 2
    with pytest.raises(ModelError, match="IR version 2 is not supported"):
        parse_model(model.SerializeToString())


def test_a_missing_or_double_opset_import_is_refused() -> None:
    model = matmul()
    model.opset_import.add(domain="ai.onnx", version=17)
    with pytest.raises(ModelError, match="stands twice"):
        parse_model(model.SerializeToString())
    del model.opset_import[:]
    with pytest.raises(ModelError, match=r"no opset import for domain 'ai\.onnx'"):
        parse_model(model.SerializeToString())
    model.opset_import.add(version=17)
    model.graph.node[0].domain = "acme"
    with pytest.raises(ModelError, match="no opset import for domain 'acme'"):
        parse_model(model.SerializeToString())


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_damaged_byte_gives_a_typed_error_or_a_model(data: st.DataObject) -> None:
    content = bytearray(matmul(rows=4, cols=4).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = parse_model(bytes(content))
        describe(model)
        with ExternalFolder(None) as folder:
            check_model(model, folder)
            split = split_model(model, folder, inline_below_bytes=1)
            split.weights.read_all()
            check_split(split)
    except SdkpackError:
        pass
