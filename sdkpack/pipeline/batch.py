"""How items are put into batches: pure planning, then the joining of arrays.

Batching and padding change answers (a convolution sees the padding), so the plan is a function of shapes and policy
alone: any implementation that follows `BatchPolicy` computes the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.documents.pipeline import BatchPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Shape", "joined", "padded_width", "plan_batches"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Items that a model sees in one call."""

    items: tuple[int, ...]
    """Indices into the list, in the order in which they are joined."""
    widths: tuple[int, ...]
    """Per port: what the last axis is padded to."""


def plan_batches(shapes: Sequence[tuple[Shape, ...]], policy: BatchPolicy) -> tuple[Batch, ...]:
    """Which items go into which batch.

    Args:
        shapes: per item, the shape at each mapped port, in port order, with its leading axis of 1. The first port
            decides the order.
        policy: the rules.

    Returns:
        Batches in the order of their calls; every index stands in exactly one of them.
    """
    order = sorted(range(len(shapes)), key=lambda item: _sort_key(shapes[item], policy))
    batches: list[Batch] = []
    open_items: list[int] = []
    for item in order:
        same = open_items and _joinable(shapes[open_items[0]], policy) == _joinable(shapes[item], policy)
        if open_items and (not same or len(open_items) == policy.max):
            batches.append(_closed(open_items, shapes, policy))
            open_items = []
        open_items.append(item)
    if open_items:
        batches.append(_closed(open_items, shapes, policy))
    return tuple(batches)


def padded_width(widest: int, policy: BatchPolicy) -> int:
    """The last axis of a batch whose widest item has `widest`."""
    if policy.pad == "none":
        return widest
    least = max(widest, policy.min_width_px)
    return -(-least // policy.multiple_of) * policy.multiple_of


def joined(arrays: Sequence[NDArray[Any]], width: int, policy: BatchPolicy) -> NDArray[Any]:
    """One array of the items along axis 0, padded at the right of the last axis to `width`."""
    import numpy as np

    if all(array.shape[-1] == width for array in arrays):
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    first = arrays[0]
    batch = np.full((len(arrays), *first.shape[1:-1], width), policy.pad_value, dtype=first.dtype)
    for row, array in enumerate(arrays):
        batch[row, ..., : array.shape[-1]] = array[0]
    return batch


def _sort_key(item: tuple[Shape, ...], policy: BatchPolicy) -> float:
    if policy.sort_by == "none":
        return 0.0
    height, width = item[0][-2:]
    # Sizes are far below 2^26, where equal doubles mean equal fractions: ties are exact.
    return width / height if height else float("inf")


def _joinable(item: tuple[Shape, ...], policy: BatchPolicy) -> tuple[Shape, ...]:
    return item if policy.pad == "none" else tuple((*shape[:-1], -1) for shape in item)


def _closed(items: list[int], shapes: Sequence[tuple[Shape, ...]], policy: BatchPolicy) -> Batch:
    ports = range(len(shapes[items[0]]))
    widths = tuple(padded_width(max(shapes[item][port][-1] for item in items), policy) for port in ports)
    return Batch(items=tuple(items), widths=widths)
