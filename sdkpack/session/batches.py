"""Variants that were compiled for one batch size, called with any number of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdkpack.errors import InputError
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fixed_batch", "in_batches"]

Arrays = Mapping[str, "NDArray[Any]"]


def fixed_batch(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], shapes: Mapping[str, int]) -> int | None:
    """The size that a model's batch is fixed to; None where it has no batch, or leaves it open.

    A batch is a symbol that is the first dimension of every input and output, and stands nowhere else: then, and only
    then, each item of the outputs belongs to one item of the inputs.
    """
    specs = (*inputs, *outputs)
    leading = {spec.shape[0] if spec.shape else None for spec in specs}
    if len(leading) != 1 or not inputs or not outputs:
        return None
    (symbol,) = leading
    elsewhere = {dim for spec in specs for dim in spec.shape[1:]}
    return shapes.get(symbol) if isinstance(symbol, str) and symbol not in elsewhere else None


def in_batches(
    arrays: Arrays, size: int | None, run: Callable[[dict[str, Any]], dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Runs in batches of `size`; the last one is filled up with its last item, and what comes of these is cut off.

    Raises:
        InputError: there is no item.
    """
    import numpy as np

    count = len(next(iter(arrays.values()))) if size is not None else 0
    if size is None or count == size:
        return run(dict(arrays))
    if count == 0:
        raise InputError("a batch without items", hint="give at least one")
    pieces = []
    for start in range(0, count, size):
        items = min(size, count - start)
        # An item that is there already: zeros may be slow (denormals) or none (a division) in a model.
        rows = np.minimum(np.arange(start, start + size), count - 1)
        outputs = run({name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()})
        pieces.append({name: array[:items] for name, array in outputs.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
