"""Types as text."""

from __future__ import annotations

import re

import pytest

from sdkpack.types import TensorSpec, ValueType


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("image", ValueType(kind="image")),
        (" image/encoded ", ValueType(kind="image/encoded")),
        ("tensor", ValueType(kind="tensor")),
        ("tensor(float32)", ValueType(kind="tensor", dtype="float32")),
        ("tensor(int64, [])", ValueType(kind="tensor", dtype="int64", shape=())),
        ("tensor( uint8 ,[N,3 , ?, 640])", ValueType(kind="tensor", dtype="uint8", shape=("N", 3, "?", 640))),
        ("list(list(quad))", ValueType.list_of(ValueType.list_of(ValueType(kind="quad")))),
        ("record", ValueType(kind="record")),
        (
            "record(score: float, text: string)",
            ValueType(kind="record", fields=(("score", ValueType(kind="float")), ("text", ValueType(kind="string")))),
        ),
    ],
)
def test_known_texts(text: str, value: ValueType) -> None:
    assert ValueType.parse(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'a name' at character 1"),
        ("3", "expected a name, got '3'"),
        ("list", "expected '(' at character 5"),
        ("list(image", "expected ')' at character 11"),
        ("image image", "unexpected text from character 6"),
        ("tensor(float31)", "unknown element type 'float31'"),
        ("tensor(float32, [1 2])", "expected ',' at character 19"),
        ("tensor(float32, [-1])", "expected 'a name' at character 18"),
        ("tensor(float32, [a/b])", "'a/b' is no dimension"),
        ("tensor(float32, [٣])", "at character 18"),
        ("tensor(float32, [" + "9" * 30 + "])", "a dimension has 30 digits"),
        ("record(a: int, a: int)", "field 'a'"),
        ("list(" * 9 + "image" + ")" * 9, "nested too deeply"),
        ("list(" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_type(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ValueType.parse(text)


def test_symbols_that_texts_cannot_hold_count_as_any_size() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=("N", "floor(H/2)", 3))
    assert str(spec) == "x: tensor(float32, [N, ?, 3])"
