"""The protobuf wire format of a model file, read before any protobuf library sees it.

Finds truncation and malformed fields with their offset, and refuses nesting that would exhaust the stack of a
recursive parser or checker. Walks only the messages of `onnx.proto` that can contain themselves; tensors are skipped
whole, so the cost follows the number of nodes and not the size of the weights.
Source: https://protobuf.dev/programming-guides/encoding (wire types, varints).
"""

from __future__ import annotations

from typing import Final, Protocol

from sdkpack.errors import ModelError

__all__ = ["MAX_LEVELS", "RECURSIVE", "scan", "top_fields"]

MAX_LEVELS: Final = 90
"""Nested messages. Protobuf's own parsers stop at 100, some by crashing; a graph in a graph costs three levels."""

RECURSIVE: Final[dict[str, dict[int, str]]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto", 12: "ValueInfoProto"},
    "GraphProto": {1: "NodeProto", 11: "ValueInfoProto", 12: "ValueInfoProto", 13: "ValueInfoProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto", 14: "TypeProto", 15: "TypeProto"},
    "ValueInfoProto": {2: "TypeProto"},
    "TypeProto": {4: "TypeProto.Sequence", 5: "TypeProto.Map", 9: "TypeProto.Optional"},
    "TypeProto.Sequence": {1: "TypeProto"},
    "TypeProto.Map": {2: "TypeProto"},
    "TypeProto.Optional": {1: "TypeProto"},
}
"""Message -> field number -> message, for every field through which a message can come to contain itself."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)


class Bytes(Protocol):
    """`bytes`, or a file that is mapped into memory."""

    def __getitem__(self, index: int, /) -> int: ...
    def __len__(self) -> int: ...


def scan(data: bytes) -> frozenset[int]:
    """Walks `data` as a ModelProto; the field numbers seen at the top.

    Raises:
        ModelError: the bytes are truncated, malformed, or nested deeper than `MAX_LEVELS`.
    """
    top: set[int] = set()
    stack: list[tuple[str, int, int]] = [("ModelProto", 0, len(data))]
    while stack:
        message, at, end = stack.pop()
        inner = RECURSIVE[message]
        while at < end:
            number, wire, at = _tag(data, at, end)
            if message == "ModelProto":
                top.add(number)
            start, stop = _value(data, at, end, wire)
            if wire == _BYTES and number in inner:
                if len(stack) + 2 > MAX_LEVELS:
                    raise ModelError(
                        f"messages nested deeper than {MAX_LEVELS} levels at byte {at}",
                        hint="no exporter nests like this: get the model again from its source",
                    )
                stack.append((message, stop, end))
                message, at, end = inner[number], start, stop
                inner = RECURSIVE[message]
                continue
            at = stop
    return frozenset(top)


def top_fields(data: Bytes) -> frozenset[tuple[int, int]]:
    """Field numbers and wire types of a message's own level; what they hold is not looked at.

    Raises:
        ModelError: the bytes are truncated, or no protobuf message.
    """
    top: set[tuple[int, int]] = set()
    at = 0
    while at < len(data):
        number, wire, at = _tag(data, at, len(data))
        top.add((number, wire))
        at = _value(data, at, len(data), wire)[1]
    return frozenset(top)


def _tag(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    key, after = _varint(data, at, end)
    number, wire = key >> 3, key & 7
    if number == 0 or wire > _FIXED32:
        raise ModelError(f"not a protobuf field at byte {at}: number {number}, wire type {wire}")
    if wire in (_GROUP, _END_GROUP):
        # ONNX has no groups; an unknown one would still be parsed, and nested, by a protobuf library.
        raise ModelError(f"protobuf group at byte {at}: ONNX has none")
    return number, wire, after


def _value(data: Bytes, at: int, end: int, wire: int) -> tuple[int, int]:
    """Where the field's content starts and stops."""
    if wire == _VARINT:
        return at, _varint(data, at, end)[1]
    if wire == _BYTES:
        length, start = _varint(data, at, end)
    else:
        length, start = (8 if wire == _FIXED64 else 4), at
    if start + length > end:
        _truncated(data, start + length, end, at)
    return start, start + length


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(at + 10, end)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    if end - at < 10:
        _truncated(data, end + 1, end, at)
    raise ModelError(f"number longer than 10 bytes at byte {at}: not a protobuf file, or damaged")


def _truncated(data: Bytes, needed: int, end: int, at: int) -> None:
    if end == len(data):
        raise ModelError(
            f"truncated: the field at byte {at} ends at byte {needed}, the file at byte {end}",
            hint="copy or download the file again and compare its size with the source's",
        )
    raise ModelError(f"malformed: the field at byte {at} ends at byte {needed}, its message at byte {end}")
