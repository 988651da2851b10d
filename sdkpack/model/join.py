"""The reverse of the split, without an ONNX library: appends initializers to the graph of a split.

Relies on protobuf's rule that concatenated messages merge: repeated fields are appended, embedded messages merged
(https://protobuf.dev/programming-guides/encoding, "Last One Wins").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.model.elements import ELEMENT_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sdkpack.model.table import TensorEntry

__all__ = ["join_external", "join_inline"]

# Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, and of TensorProto.
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_EXTERNAL = 1


def join_inline(
    graph: bytes, entries: Iterable[TensorEntry], weights: bytes | memoryview
) -> Iterator[bytes | memoryview]:
    """The pieces of a whole ONNX model with its weights inside.

    For consumers that take nothing else, and for `unpack`. The caller minds protobuf's limit of 2 GiB.
    """
    yield graph
    for entry in entries:
        head = _tensor_head(entry)
        data_key = _varint(_RAW_DATA << 3 | 2) + _varint(entry.length)
        size = len(head) + len(data_key) + entry.length
        tensor_key = _varint(_INITIALIZER << 3 | 2) + _varint(size)
        yield _varint(_GRAPH << 3 | 2) + _varint(len(tensor_key) + size) + tensor_key + head + data_key
        yield weights[entry.offset : entry.offset + entry.length]


def join_external(graph: bytes, entries: Iterable[TensorEntry], location: str, base: int = 0) -> bytes:
    """An ONNX model whose weights stand in the file `location`, the blob beginning at byte `base` of it."""
    tensors = b"".join(_field(_INITIALIZER, _external(entry, location, base)) for entry in entries)
    return graph + _field(_GRAPH, tensors)


def _external(entry: TensorEntry, location: str, base: int) -> bytes:
    facts = (("location", location), ("offset", str(base + entry.offset)), ("length", str(entry.length)))
    pairs = b"".join(_field(_EXTERNAL_DATA, _field(1, k.encode()) + _field(2, v.encode())) for k, v in facts)
    return _tensor_head(entry) + pairs + _varint(_DATA_LOCATION << 3) + _varint(_EXTERNAL)


def _tensor_head(entry: TensorEntry) -> bytes:
    dims = b"".join(_varint(_DIMS << 3) + _varint(dim) for dim in entry.shape)
    return (
        dims
        + _varint(_DATA_TYPE << 3)
        + _varint(ELEMENT_BY_NAME[entry.dtype].code)
        + _field(_NAME, entry.name.encode())
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
