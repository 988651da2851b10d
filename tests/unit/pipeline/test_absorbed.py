"""Steps that a model computes itself: which are offered, and how a run passes over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdkpack.build.steps.absorbing import absorbable_steps
from sdkpack.errors import UsageError

IMAGE = {"image": "tensor(float32, [N, 1, H, W])"}
X = np.ones((1, 1, 2, 2), np.float32)
BEFORE = {"op": "t.scale", "with": {"factor": 3}, "as": "three"}
ALSO = {"op": "t.scale", "with": {"factor": 2}, "as": "six"}
NET = {"model": "net", "as": "sum"}
AFTER = {"op": "t.scale", "with": {"factor": 5}, "as": "five"}


def ids(chain: Any) -> list[str]:
    return [bound.step.id for bound in chain]


def test_chains_next_to_the_model_are_offered_in_order(checked: Any) -> None:
    pipeline = checked(BEFORE, ALSO, NET, AFTER, inputs=IMAGE)
    found = absorbable_steps("net", {"p": pipeline})
    before, after = found.offered()
    assert [step.params["factor"] for step in before] == [3, 2] and [step.op for step in after] == ["t.scale/2"]
    ids_before = ids(found.before)
    assert found.chosen((ids_before[-1],)) is not None, "the last one alone"
    assert found.chosen((ids_before[0],)) is None, "not one with another between it and the model"
    assert found.chosen(("nothing",)) is None
    assert found.chosen((*ids_before, *ids(found.after))) == found


@pytest.mark.parametrize(
    ("steps", "more"),
    [
        ([BEFORE, NET, {"op": "t.sum", "in": "three", "as": "seen"}], {"outputs": ["sum", "seen"]}),
        ([BEFORE, NET], {"outputs": ["sum", "three"]}),
        ([{**BEFORE, "with": {"factor": "$f"}}, NET], {"params": {"f": {"default": 3.0}}}),
        ([{**BEFORE, "when": "$go"}, NET], {"params": {"go": {"default": True}}}),
        ([BEFORE, NET, {"model": "net", "in": "image", "as": "again"}], {"outputs": ["sum", "again"]}),
    ],
    ids=["used twice", "an output", "a customer's", "conditional", "two uses of the model"],
)
def test_what_somebody_else_sees_or_sets_is_not_offered(checked: Any, steps: Any, more: Any) -> None:
    assert absorbable_steps("net", {"p": checked(*steps, inputs=IMAGE, **more)}).before == ()


def test_a_run_passes_over_absorbed_steps(checked: Any) -> None:
    pipeline = checked(BEFORE, ALSO, NET, AFTER, inputs=IMAGE)
    chains = absorbable_steps("net", {"p": pipeline})
    fed: list[Any] = []

    def model(inputs: Any) -> dict[str, Any]:
        fed.append(inputs["image"])
        return {"/out:0": (inputs["image"] * 6).sum(axis=(1, 2, 3))[:, None] * 5}

    def plain(inputs: Any) -> dict[str, Any]:
        return {"/out:0": inputs["image"].sum(axis=(1, 2, 3))[:, None]}

    expected = pipeline.run({"image": X}, models={"net": plain})
    absorbed = frozenset(ids((*chains.before, *chains.after)))
    seen: list[str] = []
    outputs = pipeline.run(
        {"image": X}, models={"net": model}, absorbed=absorbed, trace=lambda step, name, value: seen.append(name)
    )
    assert outputs["five"].tolist() == expected["five"].tolist() == [[120.0]]
    assert fed[0] is X or np.array_equal(fed[0], X), "the model gets what the first absorbed step would"
    assert seen == ["five"], "values inside of the model are not shown"
    with pytest.raises(UsageError, match="computed inside of a model"):
        pipeline.run({"image": X}, models={"net": model}, absorbed=absorbed, until="sum")


def test_the_segment_is_computed_for_comparisons(checked: Any) -> None:
    pipeline = checked(BEFORE, ALSO, NET, AFTER, inputs=IMAGE)
    chains = absorbable_steps("net", {"p": pipeline})
    assert chains.inputs_of_model({"image": X})["image"].tolist() == (X * 6).tolist()
    assert chains.outputs_of_segment({"/out:0": np.ones((1, 1), np.float32)})["/out:0"].tolist() == [[5.0]]
