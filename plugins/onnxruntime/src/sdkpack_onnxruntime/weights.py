"""Joins a graph with the weights that were split from it, without an ONNX library.

The graph is a protobuf message, and concatenated messages merge: what is appended here are initializers whose data is
external. Where it really is, the session is told apart from the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["IN_MEMORY", "Tensor", "graph_with", "ort_values", "read_tensors"]

IN_MEMORY: Final = "."
"""Location of tensors that the session gets from memory. It names the current folder, so that anything in ONNX Runtime
that would read the file instead of the memory fails; with a name that exists it would compute with that file."""

# Name -> (number in onnx.proto's TensorProto.DataType, NumPy type of the same size, size in bytes).
_TYPES: Final[dict[str, tuple[int, str, int]]] = {
    "float32": (1, "<f4", 4), "uint8": (2, "u1", 1), "int8": (3, "i1", 1), "uint16": (4, "<u2", 2),
    "int16": (5, "<i2", 2), "int32": (6, "<i4", 4), "int64": (7, "<i8", 8), "bool": (9, "?", 1),
    "float16": (10, "<f2", 2), "float64": (11, "<f8", 8), "uint32": (12, "<u4", 4), "uint64": (13, "<u8", 8),
    "bfloat16": (16, "<u2", 2), "float8e4m3fn": (17, "u1", 1), "float8e4m3fnuz": (18, "u1", 1),
    "float8e5m2": (19, "u1", 1), "float8e5m2fnuz": (20, "u1", 1), "float8e8m0": (24, "u1", 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One row of the table: a tensor and its place in the weights."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_tensors(document: bytes, weights_size_bytes: int) -> tuple[Tensor, ...]:
    """Reads `{"tensors": [[name, dtype, [dims], offset, length_bytes], ...]}`.

    Raises:
        RunError: it is malformed, or a tensor does not fit its place: a wrong row would read other memory.
    """
    try:
        rows = [
            Tensor(name=name, dtype=dtype, shape=tuple(shape), offset=offset, length=length)
            for name, dtype, shape, offset, length in json.loads(document)["tensors"]
        ]
        for row in rows:
            _check(row, weights_size_bytes)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"the table of weights is malformed: {error}", hint="pack the bundle again") from None
    return tuple(rows)


def _check(row: Tensor, size: int) -> None:
    numbers = (*row.shape, row.offset, row.length)
    if type(row.name) is not str or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"tensor {row.name!r} has fields of a wrong type")
    if row.dtype not in _TYPES:
        raise ValueError(f"tensor {row.name!r} has the unknown element type {row.dtype!r}")
    needed = _TYPES[row.dtype][2]
    for dim in row.shape:
        needed *= dim
    if needed != row.length or row.offset + row.length > size:
        raise ValueError(f"tensor {row.name!r} does not fit bytes {row.offset} to {row.offset + row.length} of {size}")


def ort_values(library: Any, tensors: Sequence[Tensor], memory: memoryview) -> list[Any]:
    """OrtValues over `memory`, none of it copied. Whoever uses them keeps `memory` alive.

    Raises:
        RunError: the library copied after all; what it would do to resident memory is not what was promised.
    """
    import numpy as np

    whole = np.frombuffer(memory, dtype=np.uint8)
    values = []
    for tensor in tensors:
        code, kind, _ = _TYPES[tensor.dtype]
        array = whole[tensor.offset : tensor.offset + tensor.length].view(kind).reshape(tensor.shape)
        value = library.OrtValue.ortvalue_from_numpy_with_onnx_type(array, code)
        if tensor.length and value.data_ptr() != array.ctypes.data:
            raise RunError(f"onnxruntime copied tensor {tensor.name!r}", hint="use another version of onnxruntime")
        values.append(value)
    return values


def graph_with(graph: bytes, tensors: Sequence[Tensor], location: str, base: int) -> bytes:
    """`graph` with initializers whose data begins at byte `base` of the file `location`."""
    initializers = b"".join(_field(5, _external(tensor, location, base)) for tensor in tensors)
    return graph + _field(7, initializers) if tensors else graph


def _external(tensor: Tensor, location: str, base: int) -> bytes:
    """A TensorProto: dims 1, data_type 2, name 8, external_data 13, data_location 14 (1 = external)."""
    facts = {"location": location, "offset": str(base + tensor.offset), "length": str(tensor.length)}
    return b"".join(
        (
            *(_varint(1 << 3) + _varint(dim) for dim in tensor.shape),
            _varint(2 << 3) + _varint(_TYPES[tensor.dtype][0]),
            _field(8, tensor.name.encode()),
            *(_field(13, _field(1, key.encode()) + _field(2, value.encode())) for key, value in facts.items()),
            _varint(14 << 3) + _varint(1),
        )
    )


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
