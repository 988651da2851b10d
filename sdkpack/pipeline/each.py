"""Maps one step over lists: item by item, or in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sdkpack.documents.pipeline import BatchPolicy, Step
from sdkpack.errors import RunError
from sdkpack.pipeline.batch import Batch, joined, plan_batches
from sdkpack.pipeline.call import Call
from sdkpack.pipeline.deadline import Deadline
from sdkpack.pipeline.values import described

__all__ = ["length_under_each", "run_each"]


def length_under_each(step: Step, lists: Mapping[str, Any]) -> int:
    """The one length of all lists.

    Raises:
        RunError: they differ, or one is no list, which only shows now where its type is `any`.
    """
    for name, items in lists.items():
        if not isinstance(items, list):
            raise RunError(f"`each` maps over a list, {name!r} got {described(items)}", where=step.id)
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise RunError(f"lists that are mapped together have different lengths: {told}", where=step.id)
    return next(iter(lengths.values()))


def run_each(
    call: Call,
    step: Step,
    inputs: Mapping[str, Any],
    chosen: Sequence[int],
    deadline: Deadline | None,
) -> dict[int, dict[str, Any]]:
    """The outputs, by port, of each chosen item.

    Args:
        inputs: by port; those under `each` are lists.
        chosen: the indices of the items to run.
    """
    if step.batch is not None and chosen:
        return _in_batches(call, step, step.batch, inputs, chosen, deadline)

    def one(index: int) -> dict[str, Any]:
        if deadline is not None:
            deadline.check(f"item {index} of step {step.id!r}")
        item = {port: value[index] if port in step.each else value for port, value in inputs.items()}
        return call(item, f"item {index}")

    return dict(zip(chosen, _in_lanes(one, chosen, call.lanes), strict=True))


def _in_lanes(one: Callable[[int], dict[str, Any]], chosen: Sequence[int], lanes: int) -> list[dict[str, Any]]:
    """All results in order, up to `lanes` of them computed side by side; the first failure by order is raised."""
    if lanes < 2 or len(chosen) < 2:
        return [one(index) for index in chosen]
    with ThreadPoolExecutor(min(lanes, len(chosen)), thread_name_prefix="sdkpack-each") as pool:
        futures = [pool.submit(one, index) for index in chosen]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _in_batches(
    call: Call,
    step: Step,
    policy: BatchPolicy,
    inputs: Mapping[str, Any],
    chosen: Sequence[int],
    deadline: Deadline | None,
) -> dict[int, dict[str, Any]]:
    shapes = [tuple(_item_shape(step, port, inputs[port][index], index) for port in step.each) for index in chosen]
    results: dict[int, dict[str, Any]] = {}
    for batch in plan_batches(shapes, policy):
        if deadline is not None:
            deadline.check(f"a batch of step {step.id!r}")
        members = [chosen[position] for position in batch.items]
        outputs = call(_batch_inputs(step, policy, inputs, batch, members), f"batch of items {members[:8]}")
        for port, array in outputs.items():
            if array.ndim == 0 or array.shape[0] != len(members):
                raise RunError(
                    f"a batch of {len(members)} gave {list(array.shape)} at {port!r}, expected {len(members)} rows",
                    hint="run the items one by one: drop `batch`",
                    where=step.id,
                )
            for row, index in enumerate(members):
                # Slices, not copies: an item keeps its batch alive, as long as any of them is used.
                results.setdefault(index, {})[port] = array[row : row + 1]
    return results


def _batch_inputs(
    step: Step, policy: BatchPolicy, inputs: Mapping[str, Any], batch: Batch, members: Sequence[int]
) -> dict[str, Any]:
    fed = {port: value for port, value in inputs.items() if port not in step.each}
    for port, width in zip(step.each, batch.widths, strict=True):
        fed[port] = joined([inputs[port][index] for index in members], width, policy)
    return fed


def _item_shape(step: Step, port: str, item: Any, index: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = getattr(item, "shape", ())
    if len(shape) < 2 or shape[0] != 1:
        raise RunError(
            f"item {index} at {port!r} cannot be batched: its shape is {list(shape)}, expected a first axis of 1",
            where=step.id,
        )
    return shape
