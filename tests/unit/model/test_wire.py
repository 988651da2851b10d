"""The raw protobuf walk."""

from __future__ import annotations

import onnx
import pytest

from sdkpack.errors import ModelError
from sdkpack.model.wire import RECURSIVE, scan
from tests.unit.model.models import matmul


def _descriptors() -> dict[str, object]:
    found: dict[str, object] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        item = pending.pop()
        name = item.full_name.removeprefix("onnx.")
        if name not in found:
            found[name] = item
            pending += [field.message_type for field in item.fields if field.message_type]
    return found


def test_the_table_has_every_field_through_which_messages_nest() -> None:
    """Against onnx's own descriptors: a newer onnx with another recursive message fails here."""
    messages = _descriptors()
    edges = {
        name: {f.number: f.message_type.full_name.removeprefix("onnx.") for f in item.fields if f.message_type}
        for name, item in messages.items()
    }
    recursive = {name for name in edges if name in _reachable(edges, edges[name].values())}
    leads_to = {name for name in edges if recursive & (_reachable(edges, edges[name].values()) | {name})}
    expected = {
        name: {number: target for number, target in fields.items() if target in leads_to}
        for name, fields in edges.items()
        if name in leads_to
    }
    assert expected == RECURSIVE


def _reachable(edges: dict[str, dict[int, str]], start: object) -> set[str]:
    seen: set[str] = set()
    pending = list(start)
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += edges[name].values()
    return seen


def test_reports_the_fields_of_the_top() -> None:
    assert {1, 7, 8} <= scan(matmul().SerializeToString())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0b", "protobuf group"),
        (b"\x00\x01", "not a protobuf field"),
        (b"\x0f\x01", "not a protobuf field"),
        (b"\xff" * 11, "longer than 10 bytes"),
        (b"\x3a\x04\x0a\x05abc", "malformed|truncated"),
        (b"\x3a\x03\x0a\x05a" + b"\x08\x01" * 9, "malformed: the field at byte 3"),
        (b"\x09\x01", "truncated"),
    ],
)
def test_malformed_bytes_are_refused_with_their_place(data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        scan(data)
