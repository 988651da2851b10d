"""The table of a weight split as a document: which bytes of the weights blob are which tensor.

Plain JSON, so that a runner in any language reads it:
`{"tensors": [[name, dtype, [dims], offset, length_bytes], ...]}` without white space, UTF-8, ascending by (offset,
name).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from sdkpack.errors import ModelError
from sdkpack.model.elements import ELEMENT_BY_NAME

__all__ = [
    "GRAPH_MEDIA_TYPE",
    "TENSORS_MEDIA_TYPE",
    "WEIGHTS_MEDIA_TYPE",
    "TensorEntry",
    "read_table",
    "write_table",
]

GRAPH_MEDIA_TYPE: Final = "application/vnd.onnx.graph"
TENSORS_MEDIA_TYPE: Final = "application/vnd.onnx.tensors+json"
WEIGHTS_MEDIA_TYPE: Final = "application/vnd.onnx.weights"

_MAX_TENSORS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One initializer: what it is called, what it is, where its bytes stand in the blob."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def write_table(entries: tuple[TensorEntry, ...]) -> bytes:
    """The document's bytes; the same entries give the same bytes."""
    rows = [[e.name, e.dtype, list(e.shape), e.offset, e.length] for e in entries]
    return json.dumps({"tensors": rows}, ensure_ascii=False, separators=(",", ":")).encode()


def read_table(data: bytes, weights_size_bytes: int) -> tuple[TensorEntry, ...]:
    """Reads what `write_table` wrote, for a blob of the given size.

    Raises:
        ModelError: it is malformed, not in canonical form, or a tensor reaches past the blob.
    """
    try:
        document = json.loads(data.decode())
        rows = document["tensors"]
        if set(document) != {"tensors"} or len(rows) > _MAX_TENSORS:
            raise ValueError("unknown keys, or too many tensors")
        entries = tuple(_entry(row, weights_size_bytes) for row in rows)
        if write_table(entries) != data:
            raise ValueError("not in canonical form")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"weights table: {error}", hint="pack the model again") from None
    if len({entry.name for entry in entries}) != len(entries):
        raise ModelError("weights table: a name stands twice", hint="pack the model again")
    return entries


def _entry(row: object, size: int) -> TensorEntry:
    if not isinstance(row, list) or len(row) != 5:
        raise ValueError("a row has five fields")
    name, dtype, shape, offset, length = row
    numbers = [offset, length, *shape] if isinstance(shape, list) else [None]
    if not isinstance(name, str) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"row {name!r}: wrong types")
    element = ELEMENT_BY_NAME.get(dtype) if isinstance(dtype, str) else None
    if element is None or element.bits < 8:
        raise ValueError(f"row {name!r}: unknown element type {dtype!r}")
    needed = element.bits // 8
    for dim in shape:
        needed *= dim
    if needed != length or offset + length > size:
        raise ValueError(f"row {name!r}: {length} bytes at {offset} do not fit shape {shape} and {size} bytes in all")
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape), offset=offset, length=length)
