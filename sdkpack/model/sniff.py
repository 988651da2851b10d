"""What a file that is no ONNX model looks like, so that an error can say it.

Containers are named, formats of other frameworks are not: those belong to the plugins that read them. Of such a file
the identifier is told that it begins with, by which its owner knows it.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Final

__all__ = ["is_onnx", "looks_like"]

_CONVERT: Final = "convert it to ONNX first; the installed converters: sdkpack plugins list"
_IDENTIFIER: Final = re.compile(rb"[A-Za-z][A-Za-z0-9]{3}")
_AGAIN: Final = "download the file itself"

# (offset, magic, what it is, next step)
_MAGICS: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "run: git lfs pull"),
    (0, b"\x89SDK\r\n\x1a\n", "an sdkpack bundle", "use: sdkpack unpack"),
    (0, b"PK\x03\x04", "a ZIP archive", _CONVERT),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _CONVERT),
    (0, b"\x1f\x8b", "a gzip file", "unpack it first"),
    (0, b"BZh", "a bzip2 file", "unpack it first"),
    (0, b"\xfd7zXZ\x00", "an xz file", "unpack it first"),
    (0, b"\x93NUMPY", "a NumPy array", _CONVERT),
    (0, b"\x7fELF", "a program or shared library", _AGAIN),
    (0, b"%PDF", "a PDF document", _AGAIN),
    (0, b"\x89PNG", "a PNG image", _AGAIN),
    (0, b"\xff\xd8\xff", "a JPEG image", _AGAIN),
)


_OUTER: Final = {(1, 0), (7, 2), (8, 2)}
"""Number and wire type of `ir_version`, `graph` and `opset_import`: other networks in protobuf use the same numbers
otherwise."""


def is_onnx(path: Path) -> bool:
    """Whether a file has the outer form of an ONNX model, whatever it is called. Reads the heads of a few fields only.

    Source: `ModelProto` in onnx.proto; IR versions from 3 on must state the imported opsets.
    """
    from sdkpack.errors import ModelError
    from sdkpack.model.wire import top_fields

    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):
            return False  # empty, or not a file that can be mapped
        with data:
            try:
                return top_fields(data) >= _OUTER
            except ModelError:
                return False


def looks_like(head: bytes) -> tuple[str, str] | None:
    """(what it looks like, next step) for the first bytes (512 suffice) of a file; None where nothing is known."""
    if not head:
        return "an empty file", "check how the file was made or copied"
    for offset, magic, what, hint in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return what, hint
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "a Python pickle", "export it to ONNX with the code that defines the network"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return "tensors behind a JSON header", "it holds weights without a network: export the model to ONNX"
    return _text(head) or _identified(head)


def _identified(head: bytes) -> tuple[str, str] | None:
    """By the four letters that most binary formats have at their begin: at once, or behind the offset of the root table
    (FlatBuffers, "File identification")."""
    hint = f"take the .onnx file that it was made from, or {_CONVERT}"
    if _IDENTIFIER.fullmatch(head[:4]):
        return f"a file of the kind {head[:4].decode()!r}", hint
    if _IDENTIFIER.fullmatch(head[4:8]) and 0 < int.from_bytes(head[:4], "little") < 1 << 16:
        return f"a FlatBuffers file of the kind {head[4:8].decode()!r}", hint
    return None


def _text(head: bytes) -> tuple[str, str] | None:
    try:
        text = head[:512].decode()
    except UnicodeDecodeError as error:
        if error.start < len(head[:512]) - 3:
            return None
        text = head[: error.start].decode()
    if any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page", "the download was answered with a web page: " + _AGAIN
    if start.startswith("<?xml"):
        return "an XML file", _CONVERT
    return "a text file", "a model in ONNX's binary form is needed"
