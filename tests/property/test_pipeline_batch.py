"""Batches are planned from shapes alone: nothing lost, nothing too large, no more padding than the policy asks for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdkpack.documents.pipeline import BatchPolicy, Step
from sdkpack.errors import RunError
from sdkpack.pipeline.batch import Batch, plan_batches
from sdkpack.pipeline.each import run_each

Shapes = list[tuple[tuple[int, ...], ...]]

widths = st.integers(0, 40)
heights = st.integers(0, 3)
policies = st.builds(
    BatchPolicy,
    max=st.integers(1, 7),
    sort_by=st.sampled_from(["none", "aspect"]),
    pad=st.just("right"),
    min_width_px=st.integers(0, 20),
    multiple_of=st.integers(1, 8),
) | st.builds(BatchPolicy, max=st.integers(1, 7), sort_by=st.sampled_from(["none", "aspect"]))


@st.composite
def shape_lists(draw: st.DrawFn) -> Shapes:
    ports = draw(st.integers(1, 2))
    item = st.tuples(*(st.tuples(st.just(1), heights, widths) for _ in range(ports)))
    return draw(st.lists(item, max_size=20))


def order_of(batches: tuple[Batch, ...]) -> list[int]:
    return [item for batch in batches for item in batch.items]


@given(shape_lists(), policies)
def test_every_item_is_in_one_batch_and_none_is_too_large(shapes: Shapes, policy: BatchPolicy) -> None:
    batches = plan_batches(shapes, policy)
    assert sorted(order_of(batches)) == list(range(len(shapes)))
    assert all(1 <= len(batch.items) <= policy.max for batch in batches)


@given(shape_lists(), policies)
def test_padding_is_the_least_that_the_policy_allows(shapes: Shapes, policy: BatchPolicy) -> None:
    for batch in plan_batches(shapes, policy):
        for port, width in enumerate(batch.widths):
            widest = max(shapes[item][port][-1] for item in batch.items)
            if policy.pad == "none":
                assert {shapes[item][port] for item in batch.items} == {(*shapes[batch.items[0]][port][:-1], width)}
                continue
            least = max(widest, policy.min_width_px)
            assert width >= least
            assert width % policy.multiple_of == 0
            assert width - policy.multiple_of < least


@given(shape_lists(), policies)
def test_the_order_is_by_aspect_with_ties_in_list_order(shapes: Shapes, policy: BatchPolicy) -> None:
    order = order_of(plan_batches(shapes, policy))
    if policy.sort_by == "none":
        assert order == list(range(len(shapes)))
        return

    def aspect(item: int) -> float:
        _, height, width = shapes[item][0]
        return width / height if height else float("inf")

    assert order == sorted(order, key=lambda item: (aspect(item), item))


@given(shape_lists(), policies)
def test_a_batch_ends_only_where_it_must(shapes: Shapes, policy: BatchPolicy) -> None:
    batches = plan_batches(shapes, policy)
    for one, following in itertools.pairwise(batches):
        first, second = shapes[one.items[0]], shapes[following.items[0]]
        if policy.pad == "right":
            first = tuple(shape[:-1] for shape in first)
            second = tuple(shape[:-1] for shape in second)
        assert len(one.items) == policy.max or first != second


@dataclass(frozen=True)
class _Call:
    """A function as a step's call."""

    function: Callable[[Any, str], dict[str, Any]]
    lanes: int = 1

    def __call__(self, inputs: Any, item: str = "") -> dict[str, Any]:
        return self.function(inputs, item)


@given(st.integers(0, 20), st.integers(1, 5), st.data())
def test_items_side_by_side_come_back_in_list_order(count: int, lanes: int, data: st.DataObject) -> None:
    chosen = [number for number in range(count) if data.draw(st.booleans())]
    step = Step(id="m", model="m", inputs={"x": "xs"}, outputs={"y": "ys"}, each=("x",))
    side_by_side = _Call(lambda inputs, _: {"y": inputs["x"] * 2}, lanes)
    results = run_each(side_by_side, step, {"x": list(range(count))}, chosen, None)
    assert results == {number: {"y": number * 2} for number in chosen}


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_first_failure_by_order_is_raised(lanes: int) -> None:
    step = Step(id="m", model="m", inputs={"x": "xs"}, outputs={"y": "ys"}, each=("x",))

    def call(inputs: Any, item: str) -> dict[str, Any]:
        if inputs["x"] >= 2:
            raise RunError(item)
        return {"y": inputs["x"]}

    with pytest.raises(RunError, match=r"^item 2$"):
        run_each(_Call(call, lanes), step, {"x": list(range(8))}, range(8), None)


@given(st.lists(st.tuples(heights, widths), max_size=15), policies, st.data())
def test_results_come_back_in_list_order(
    sizes: list[tuple[int, int]], policy: BatchPolicy, data: st.DataObject
) -> None:
    items = [np.full((1, height, width), number, np.float32) for number, (height, width) in enumerate(sizes)]
    chosen = [number for number in range(len(items)) if data.draw(st.booleans())]
    step = Step(id="m", model="m", inputs={"x": "xs"}, outputs={"y": "ys"}, each=("x",), batch=policy)
    seen: list[Any] = []

    def call(inputs: Any, item: str = "") -> dict[str, Any]:
        batch = inputs["x"]
        seen.append(batch.shape)
        # The greatest of each row: padding is 0, so the item's own number comes through, if it has any element.
        return {"y": batch.reshape(len(batch), -1).max(axis=1, initial=0)[:, None]}

    results = run_each(_Call(call), step, {"x": items}, chosen, None)
    assert sorted(results) == chosen
    assert [float(results[number]["y"][0, 0]) for number in chosen] == [
        float(number) if items[number].size else 0.0 for number in chosen
    ]
    assert sum(shape[0] for shape in seen) == len(chosen)


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from(["float32", "uint8", "int64"]))
def test_padding_keeps_the_item_and_fills_the_rest(one: int, other: int, dtype: str) -> None:
    policy = BatchPolicy(max=2, pad="right", pad_value=7, min_width_px=5)
    items = [np.arange(2 * width, dtype=dtype).reshape(1, 2, width) for width in (one, other)]
    step = Step(id="m", model="m", inputs={"x": "xs"}, outputs={"y": "ys"}, each=("x",), batch=policy)
    batches: list[Any] = []

    def call(inputs: Any, item: str = "") -> dict[str, Any]:
        batches.append(inputs["x"])
        return {"y": inputs["x"]}

    run_each(_Call(call), step, {"x": items}, [0, 1], None)
    (batch,) = batches
    assert batch.dtype.name == dtype
    assert batch.shape == (2, 2, max(one, other, 5))
    for row, item in zip(batch, items, strict=True):
        width = item.shape[-1]
        assert np.array_equal(row[:, :width], item[0])
        assert (row[:, width:] == 7).all()
