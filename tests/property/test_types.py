"""A type's text form reads back as the same type; no text does anything but parse or raise ValueError."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdkpack.types import DTYPES, SHAPE_SYMBOL, TensorSpec, ValueType

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
kinds = st.sampled_from(["image", "image/encoded", "string", "int", "float", "quad", "geometry", "any", "acme.thing"])
dims = st.integers(0, 10**18 - 1) | st.from_regex(SHAPE_SYMBOL, fullmatch=True) | st.just("?")
shapes = st.none() | st.lists(dims, max_size=5).map(tuple)
tensors = st.builds(ValueType, kind=st.just("tensor"), dtype=st.sampled_from(sorted(DTYPES)), shape=shapes)
leaves = kinds.map(lambda kind: ValueType(kind=kind)) | tensors | st.just(ValueType(kind="tensor"))


def records(inner: st.SearchStrategy[ValueType]) -> st.SearchStrategy[ValueType]:
    fields = st.dictionaries(names, inner, max_size=3).map(lambda found: tuple(found.items()))
    return fields.map(lambda found: ValueType(kind="record", fields=found))


def compound(inner: st.SearchStrategy[ValueType]) -> st.SearchStrategy[ValueType]:
    return inner.map(ValueType.list_of) | records(inner)


def depth(value: ValueType) -> int:
    inner = [value.item] if value.item else [kind for _, kind in value.fields]
    return 1 + max((depth(each) for each in inner), default=0)


types = st.recursive(leaves, compound, max_leaves=6).filter(lambda value: depth(value) <= 8)


@given(types)
def test_text_reads_back(value: ValueType) -> None:
    assert ValueType.parse(str(value)) == value


@given(st.text(alphabet="tensorlistrecord(float32,[]?:_ 0123456789ABé٣²)", max_size=60) | st.text(max_size=40))
def test_any_text_parses_to_a_canonical_type_or_is_refused(text: str) -> None:
    try:
        value = ValueType.parse(text)
    except ValueError:
        return
    assert ValueType.parse(str(value)) == value


@given(st.lists(st.integers(0, 10**6) | st.text(max_size=12), max_size=4), st.sampled_from(sorted(DTYPES)))
def test_the_type_of_any_tensor_can_be_written(shape: list[int | str], dtype: str) -> None:
    kind = TensorSpec(name="x", dtype=dtype, shape=tuple(shape)).type
    assert ValueType.parse(str(kind)) == kind
