"""THREATS row 9: nesting and size bombs in protobuf are refused, and nothing crashes."""

from __future__ import annotations

import time

import onnx
import pytest
from onnx import TensorProto, helper

from sdkpack.errors import ModelError
from sdkpack.model.external import ExternalFolder
from sdkpack.model.facts import describe
from sdkpack.model.load import parse_model
from sdkpack.model.split import split_model


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def nested_graphs(levels: int) -> bytes:
    """GraphProto -> node -> attribute -> g -> ..., built from the inside; quadratic only in the length's length."""
    parts: list[bytes] = []
    size = 0
    for _ in range(levels):
        for number in (6, 5, 1):
            head = varint(number << 3 | 2) + varint(size)
            parts.append(head)
            size += len(head)
    return varint(7 << 3 | 2) + varint(size) + b"".join(reversed(parts))


def head() -> bytes:
    return varint(1 << 3) + varint(8) + field(8, varint(2 << 3) + varint(17))


@pytest.mark.parametrize("levels", [34, 100, 1_000, 33_334])
def test_nested_graphs_are_refused(levels: int) -> None:
    with pytest.raises(ModelError, match="nested deeper than 90 levels"):
        parse_model(head() + nested_graphs(levels))


def test_as_many_levels_as_are_allowed_work() -> None:
    model = parse_model(head() + nested_graphs(29))
    with ExternalFolder(None) as folder:
        assert split_model(model, folder).tensors == ()
    describe(model)


def test_a_hundred_thousand_nested_types_are_refused() -> None:
    parts: list[bytes] = []
    size = 0
    for level in range(100_000):
        head_ = varint((4 if level % 2 else 1) << 3 | 2) + varint(size)
        parts.append(head_)
        size += len(head_)
    kind = b"".join(reversed(parts))
    with pytest.raises(ModelError, match="nested deeper"):
        parse_model(head() + field(7, field(11, field(2, kind))))


def test_a_hundred_thousand_nested_groups_are_refused() -> None:
    with pytest.raises(ModelError, match="protobuf group"):
        parse_model(head() + varint(99 << 3 | 3) * 100_000)
    with pytest.raises(ModelError, match="protobuf group"):
        parse_model(head() + field(7, field(1, varint(99 << 3 | 3) * 100_000)))


def test_deep_bytes_in_a_field_that_nobody_parses_are_only_bytes() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    parse_model(model.SerializeToString() + field(999, nested_graphs(1_000)))


def test_a_million_empty_nodes_are_bounded_in_time() -> None:
    data = head() + field(7, field(1, b"") * 1_000_000)
    start = time.perf_counter()
    model = parse_model(data)
    assert len(model.proto.graph.node) == 1_000_000
    assert time.perf_counter() - start < 30


def test_a_tensor_that_declares_exabytes_costs_nothing() -> None:
    graph = onnx.GraphProto(
        name="g", initializer=[TensorProto(name="w", data_type=1, dims=[1 << 31, 1 << 31], raw_data=b"1234")]
    )
    graph.output.add(name="w").type.tensor_type.elem_type = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = parse_model(model.SerializeToString())
    with ExternalFolder(None) as folder, pytest.raises(ModelError, match=r"needs more than 2\^40 bytes"):
        split_model(loaded, folder)
    with pytest.raises(ModelError, match=r"needs more than 2\^40 bytes"):
        describe(loaded)
