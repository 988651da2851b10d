"""Values of pipelines and their forms outside of Python: files as inputs, JSON as outputs."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sdkpack.documents.base import json_object
from sdkpack.errors import DocumentError, FileError, InputError
from sdkpack.session.npz import read_npy, read_npz
from sdkpack.types import ValueType

__all__ = ["MAX_INPUT_BYTES", "input_from_file", "json_value", "read_encoded", "read_input_file"]

MAX_INPUT_BYTES: Final = 1 << 30
"""Of one input file: far above any photograph, below what would take a server down."""


def read_encoded(value: Any, kind: ValueType) -> Any:
    """The content of the file, where a path (str or PathLike) stands for encoded bytes; other values as they are.

    Raises:
        FileError: the file is missing, unreadable, not a plain file, or too large.
    """
    if kind.kind.endswith("/encoded") and isinstance(value, str | os.PathLike):
        return read_input_file(Path(os.fspath(value)))
    return value


def input_from_file(kind: ValueType, content: bytes, *, where: str) -> Any:
    """The value that a file stands for, by the type that is wanted.

    Encoded kinds and `bytes` are the content itself, `string` is its UTF-8 text; tensors, images and quads are npy, or
    npz with one array; everything else is JSON.

    Raises:
        InputError: the content does not stand for such a value.
        PayloadError: an npy or npz is malformed.
    """
    if kind.kind == "bytes" or kind.kind.endswith("/encoded"):
        return content
    if kind.kind in {"tensor", "image", "quad"}:
        if not content.startswith(b"PK"):
            return read_npy(content, where=where)
        arrays = read_npz(content, where=where)
        if len(arrays) != 1:
            raise InputError(f"{where}: {len(arrays)} arrays, expected one")
        return next(iter(arrays.values()))
    try:
        return content.decode() if kind.kind == "string" else json_object(content, where=where)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text at byte {error.start}") from error
    except DocumentError as error:
        raise InputError(f"{where}: no JSON that could be a {kind}: {error.message}") from error


def json_value(value: Any) -> Any:
    """A pipeline's output as JSON values: arrays as nested lists, NaN and infinity as null, bytes as hexadecimal."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "tolist"):
        return json_value(value.tolist())  # NumPy arrays and scalars
    if hasattr(value, "__dict__") or hasattr(value, "__slots__"):
        return json_value(_fields(value))
    raise InputError(f"a value of type {type(value).__name__} has no JSON form")


def _fields(value: Any) -> dict[str, Any]:
    import dataclasses

    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise InputError(f"a value of type {type(value).__name__} has no JSON form")


def read_input_file(path: Path) -> bytes:
    try:
        # Non-blocking, so that a fifo cannot hang the caller before it is recognised.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(fd, "rb") as stream:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise FileError(f"{path} is not a plain file")
            if facts.st_size > MAX_INPUT_BYTES:
                raise FileError(f"{path} has {facts.st_size} bytes, expected at most {MAX_INPUT_BYTES}")
            return stream.read(MAX_INPUT_BYTES)
    except OSError as error:
        raise FileError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}", hint="check the path"
        ) from error
    except ValueError as error:  # a NUL in the name
        raise FileError(f"no file can have the name {str(path)[:60]!r}") from error
