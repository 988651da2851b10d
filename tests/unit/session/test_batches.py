"""Any number of items on a variant of one batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdkpack.errors import InputError
from sdkpack.session.batches import fixed_batch, in_batches
from sdkpack.types import TensorSpec


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [
        ((spec("x", "N", 3),), (spec("y", "N", 2),), 4),
        ((spec("x", "N", 3), spec("m", "N")), (spec("y", "N", 2),), 4),
        ((spec("x", "N", "N"),), (spec("y", "N", 2),), None),
        ((spec("x", "N", 3), spec("table", 7, 3)), (spec("y", "N", 2),), None),
        ((spec("x", "N", 3),), (spec("y", "N", 2), spec("mean", 2)), None),
        ((spec("x", "M", 3),), (spec("y", "M", 2),), None),
        ((spec("x", 4, 3),), (spec("y", 4, 2),), None),
        ((spec("x"),), (spec("y"),), None),
        ((), (), None),
    ],
)
def test_a_batch_is_a_symbol_that_leads_everywhere(inputs: Any, outputs: Any, size: int | None) -> None:
    assert fixed_batch(inputs, outputs, {"N": 4, "H": 32}) == size


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_items_come_back_in_order_whatever_their_number(count: int) -> None:
    calls: list[tuple[int, ...]] = []

    def run(arrays: dict[str, Any]) -> dict[str, Any]:
        calls.append(arrays["x"].shape)
        return {"y": arrays["x"] * 2}

    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    assert in_batches({"x": x}, 4, run)["y"].tolist() == (x * 2).tolist()
    assert set(calls) == {(4, 2)} and len(calls) == -(-count // 4)


def test_an_open_batch_is_left_alone_and_none_is_refused() -> None:
    x = np.zeros((3, 2), np.float32)
    assert in_batches({"x": x}, None, lambda arrays: arrays)["x"] is x
    with pytest.raises(InputError, match="without items"):
        in_batches({"x": x[:0]}, 4, lambda arrays: arrays)
