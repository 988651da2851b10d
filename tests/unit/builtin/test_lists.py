"""Operators on lists and boxes, and the built-in descriptors."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdkpack.builtin.operators.boxes import MapBack, ReadingOrder
from sdkpack.builtin.operators.lists import Filter, Gather, Restore, Sort, Zip
from sdkpack.builtin.operators.params import FilterParams, ReadingOrderParams, SortParams, ZipParams
from sdkpack.builtin.operators.rows import operator_rows
from sdkpack.errors import InputError
from sdkpack.plugin import Operator, OperatorInfo
from sdkpack.types import ValueType

NUMBERS = st.lists(st.floats(width=32), max_size=12)
NEEDED: dict[str, dict[str, Any]] = {
    "AboveParams": {"index": 0},
    "LookupParams": {"labels": ("a",)},
    "CtcGreedyParams": {"alphabet": ("a",)},
    "FilterParams": {"threshold": 0.0},
    "ZipParams": {"keys": ("a",)},
}


def box(left: float, top: float, width: float = 20, height: float = 8) -> np.ndarray:
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]], np.float32)


@pytest.mark.parametrize("row", operator_rows(), ids=lambda row: row.name)
def test_every_operator_loads_and_is_documented(row: OperatorInfo) -> None:
    module, _, name = row.load.partition(":")
    found = getattr(importlib.import_module(module), name)
    operator = found(row.params(**NEEDED.get(row.params.__name__, {}))) if row.params else found()
    assert isinstance(operator, Operator)
    assert len(found.__doc__) > 20
    for port in (*row.inputs, *row.outputs):
        ValueType.parse(port.type)
    if row.params:
        assert dataclasses.is_dataclass(row.params)


def test_listing_the_operators_does_not_import_numpy() -> None:
    code = (
        "import sys; from sdkpack.builtin import plugin; plugin.sdkpack_operators(); "
        "import sdkpack.builtin.operators.lists, sdkpack.builtin.operators.scores, sdkpack.builtin.operators.boxes; "
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("keep", "kept"), [("at_least", [0.5, 0.9]), ("above", [0.9]), ("at_most", [0.1, 0.5]), ("below", [0.1])]
)
def test_filter_keeps_one_side_and_drops_what_is_not_a_number(keep: Any, kept: list[float]) -> None:
    assert Filter(FilterParams(threshold=0.5, keep=keep)).run([0.1, 0.5, 0.9, float("nan")]) == kept


def test_filter_compares_a_field() -> None:
    records = [{"score": 0.4, "text": "a"}, {"score": 0.6, "text": "b"}]
    assert Filter(FilterParams(threshold=0.5, key="score")).run(records) == records[1:]
    with pytest.raises(InputError, match="'size'"):
        Filter(FilterParams(threshold=0.5, key="size")).run(records)


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("", "list(string)", "say by `key`"),
        ("score", "list(float)", "not records"),
        ("scor", "list(record(score: float))", "the records have score"),
        ("text", "list(record(text: string))", "not a number"),
    ],
)
def test_filter_and_sort_check_the_key_before_a_run(key: str, kind: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Filter(FilterParams(threshold=0.0, key=key)).infer({"items": ValueType.parse(kind)})
    with pytest.raises(ValueError, match=words):
        Sort(SortParams(key=key)).infer({"items": ValueType.parse(kind)})


def test_lists_keep_their_type() -> None:
    kind = ValueType.parse("list(record(score: float))")
    assert Filter(FilterParams(threshold=0.0, key="score")).infer({"items": kind}) == {"items": kind}


def test_a_threshold_is_a_number() -> None:
    with pytest.raises(ValueError, match="threshold must be finite"):
        FilterParams(threshold=float("nan"))


@given(NUMBERS, st.booleans())
def test_restore_undoes_sort(items: list[float], descending: bool) -> None:
    ordered, order = Sort(SortParams(descending=descending)).run(items)
    numbers = [value for value in ordered if value == value]
    assert numbers == sorted(numbers, reverse=descending)
    assert all(value != value for value in ordered[len(numbers) :])
    restored = Restore().run(ordered, order)
    assert all(one is other for one, other in zip(restored, items, strict=True))


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 2], [-1, 0], [0, 1, 2]])
def test_restore_wants_each_place_once(order: list[int]) -> None:
    with pytest.raises(InputError, match="each place once"):
        Restore().run(["a", "b"], order)


def test_gather_takes_places_in_any_number() -> None:
    assert Gather().run(["a", "b", "c"], [2, 0, 2]) == ["c", "a", "c"]
    assert Gather().run(["a"], []) == []
    for place in (-1, 3):
        with pytest.raises(InputError, match=f"from 0 to 2, got {place}"):
            Gather().run(["a", "b", "c"], [place])


def test_zip_makes_records() -> None:
    zipped = Zip(ZipParams(keys=("text", "score"))).run(["a", "b"], [1.0, 2.0], None)
    assert zipped == [{"text": "a", "score": 1.0}, {"text": "b", "score": 2.0}]
    assert Zip(ZipParams(keys=("text", "score"))).run([], []) == []


def test_zip_knows_the_type_of_its_records() -> None:
    kinds = {"first": ValueType.parse("list(string)"), "second": ValueType.parse("list(float)")}
    inferred = Zip(ZipParams(keys=("text", "score"))).infer(kinds)
    assert str(inferred["records"]) == "list(record(score: float, text: string))"
    with pytest.raises(ValueError, match="there are 1 keys for 2 lists"):
        Zip(ZipParams(keys=("text",))).infer(kinds)


def test_zip_wants_lists_of_one_length() -> None:
    with pytest.raises(InputError, match="got text: 1, score: 2"):
        Zip(ZipParams(keys=("text", "score"))).run(["a"], [1.0, 2.0])
    with pytest.raises(InputError, match="expected 2 lists"):
        Zip(ZipParams(keys=("text", "score"))).run(["a"])


@pytest.mark.parametrize("keys", [(), ("a", "a"), ("a b",), tuple("abcdefghi")])
def test_zip_refuses_strange_keys(keys: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="keys must"):
        ZipParams(keys=keys)


def test_reading_order_is_by_line_then_by_column() -> None:
    boxes = [box(60, 42), box(10, 48), box(5, 90), box(30, 10)]
    ordered, order = ReadingOrder(ReadingOrderParams()).run(boxes)
    assert order == [3, 1, 0, 2]
    assert ordered[0] is boxes[3]


def test_a_slanted_line_holds_together_from_neighbour_to_neighbour() -> None:
    boxes = [box(100 - 25 * step, 10 + 7 * step) for step in range(4)]
    assert ReadingOrder(ReadingOrderParams()).run(boxes)[1] == [1, 0, 3, 2]
    assert ReadingOrder(ReadingOrderParams(line_px=50.0)).run(boxes)[1] == [3, 2, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=15))
def test_reading_order_loses_no_box(places: list[tuple[int, int]]) -> None:
    boxes = [box(x, y) for x, y in places]
    ordered, order = ReadingOrder(ReadingOrderParams()).run(boxes)
    assert sorted(order) == list(range(len(boxes)))
    assert all(ordered[i] is boxes[place] for i, place in enumerate(order))


def test_boxes_are_mapped_back_and_clipped() -> None:
    geometry = np.array([0.5, 2.0, 10, 0, 100, 50, 210, 25], np.float64)
    (mapped,) = MapBack().run([box(4, 10, 50, 40)], geometry)
    assert mapped.dtype == np.float32
    assert mapped.tolist() == [[0, 20], [22, 20], [22, 50], [0, 50]]
    assert MapBack().run([], geometry) == []
