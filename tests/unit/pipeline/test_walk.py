"""From a recipe's steps to numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def summing(calls: list[tuple[int, ...]] | None = None) -> Any:
    def net(inputs: Any) -> dict[str, Any]:
        image = inputs["image"]
        if calls is not None:
            calls.append(image.shape)
        return {"/out:0": image.sum(axis=(1, 2, 3))[:, None]}

    return net


def test_chains_steps_and_returns_what_the_last_one_gave(checked: Any) -> None:
    pipeline = checked({"op": "t.read"}, {"op": "t.scale", "with": {"factor": 3}}, {"op": "t.sum", "as": "total"})
    assert pipeline.run({"blob": bytes([1, 2, 3])}, models={}) == {"total": 18.0}


def test_maps_a_model_over_a_list_in_batches_and_keeps_the_order(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.read"},
        {"op": "t.strips", "as": ["strips", "_"]},
        {
            "model": "net",
            "each": "strips",
            "batch": {"max": 2, "sort_by": "aspect", "pad": "right", "min_width_px": 3, "multiple_of": 2},
            "as": "rows",
        },
    )
    calls: list[tuple[int, ...]] = []
    result = pipeline.run({"blob": bytes([9, 1, 5, 2])}, models={"net": summing(calls)})
    # By width 1, 2 | 5, 9; at least 3, rounded up to even.
    assert calls == [(2, 1, 2, 4), (2, 1, 2, 10)]
    assert [float(row[0, 0]) for row in result["rows"]] == [2.0 * n * n for n in (9, 1, 5, 2)]


@pytest.mark.parametrize("batch", [None, {"max": 4, "pad": "right"}])
def test_an_empty_list_gives_an_empty_list(checked: Any, batch: Any) -> None:
    step = {"model": "net", "each": "strips", "as": "rows"} | ({"batch": batch} if batch else {})
    pipeline = checked({"op": "t.strips", "as": ["strips", "_"]}, step, inputs={"x": "tensor(float32, [N])"})
    assert pipeline.run({"x": np.zeros(0, np.float32)}, models={"net": summing()}) == {"rows": []}


def test_runs_only_the_items_whose_condition_is_true(checked: Any) -> None:
    pipeline = checked(
        {"op": "t.read"},
        {"op": "t.strips", "as": ["strips", "even"]},
        {"op": "t.scale", "each": "strips", "when": "even", "with": {"factor": 10}, "as": "scaled"},
        {"op": "t.sum", "each": "scaled", "as": "sums"},
    )
    assert pipeline.run({"blob": bytes([1, 2])}, models={}) == {"sums": [2.0, 80.0]}
