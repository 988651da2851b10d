"""Which value may feed which port."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdkpack.pipeline.unify import Dims, filled, join, mismatch
from sdkpack.types import ValueType

parse = ValueType.parse

dims = st.integers(1, 3) | st.sampled_from(["N", "W", "?"])
tensors = st.builds(
    ValueType,
    kind=st.just("tensor"),
    dtype=st.sampled_from(["float32", "uint8"]),
    shape=st.none() | st.lists(dims, max_size=3).map(tuple),
)
types = st.recursive(
    tensors | st.sampled_from([parse(text) for text in ("image", "int", "float", "any", "tensor", "record", "a.b/c")]),
    lambda inner: (
        inner.map(ValueType.list_of)
        | st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=2).map(
            lambda fields: ValueType(kind="record", fields=tuple(sorted(fields.items())))
        )
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("port", "value", "reason"),
    [
        ("any", "image", ""),
        ("image", "any", ""),
        ("float", "int", ""),
        ("int", "float", "a float is not an int"),
        ("image", "tensor(uint8)", "a tensor is not an image"),
        ("tensor", "tensor(int8, [3])", ""),
        ("tensor(float32)", "tensor(float64)", "element type is float64, expected float32"),
        ("tensor(float32, [N, 3])", "tensor(float32, [2, 3])", ""),
        ("tensor(float32, [N, 3])", "tensor(float32, [2, 4])", "axis 1 is 4, expected 3"),
        ("tensor(float32, [N, 3])", "tensor(float32, [N])", "it has 1 axis, expected 2"),
        ("tensor(float32, [N, N])", "tensor(float32, [2, 3])", "axis 1 is 3, but N is already 2"),
        ("tensor(float32, [N, N])", "tensor(float32, [H, 3])", ""),
        ("tensor(float32, [?, ?])", "tensor(float32, [2, 3])", ""),
        ("tensor(float32, [4, 640])", "tensor(float32, [H, W])", ""),
        ("list(image)", "image", "an image is not a list"),
        ("list(int)", "list(string)", "in its items: a string is not an int"),
        ("list(list(float))", "list(list(int))", ""),
        ("record(a: int)", "record(a: int, b: image)", ""),
        ("record(a: int)", "record(b: int)", "its field 'a' is missing"),
        ("record(a: int)", "record(a: image)", "in its field 'a': an image is not an int"),
        ("record(a: int)", "record", ""),
        ("record", "record(a: int)", ""),
        ("acme.mesh", "acme.mesh", ""),
    ],
)
def test_fits_or_says_why_not(port: str, value: str, reason: str) -> None:
    assert mismatch(parse(port), parse(value), {}) == reason


def test_symbols_are_shared_between_the_ports_of_one_call() -> None:
    bound: Dims = {}
    assert not mismatch(parse("tensor(float32, [N, C])"), parse("tensor(float32, [2, W])"), bound)
    assert bound == {"N": 2, "C": "W"}
    # A size that is known replaces one that was not.
    assert not mismatch(parse("tensor(float32, [C])"), parse("tensor(float32, [5])"), bound)
    assert bound == {"N": 2, "C": 5}
    assert mismatch(parse("list(tensor(float32, [N]))"), parse("list(tensor(float32, [3]))"), bound) == (
        "in its items: axis 0 is 3, but N is already 2"
    )
    assert str(filled(parse("record(a: list(tensor(float32, [N, C, T])))"), bound)) == (
        "record(a: list(tensor(float32, [2, 5, T])))"
    )


@given(types)
def test_every_type_fits_itself(kind: ValueType) -> None:
    assert mismatch(kind, kind, {}) == ""


@given(types, types)
def test_a_join_takes_both(one: ValueType, other: ValueType) -> None:
    if mismatch(one, other, {}):
        return
    both = join(one, other)
    assert mismatch(both, one, {}) == ""
    assert mismatch(both, other, {}) == ""
    assert ValueType.parse(str(both)) == both
