"""Operators on a classifier's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdkpack.errors import InputError
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sdkpack.builtin.operators.params import AboveParams, LookupParams, SoftmaxParams, TopKParams

__all__ = ["Above", "ArgMax", "Lookup", "Softmax", "TopK"]


def _class_count(inputs: Mapping[str, ValueType]) -> int | None:
    """Number of classes where the type of `scores` says it."""
    shape = inputs["scores"].shape if "scores" in inputs else None
    return shape[-1] if shape and isinstance(shape[-1], int) else None


class Softmax:
    """Turns scores into probabilities along an axis: `exp(x / temperature)`, normalised.

    Computed from the distance to the greatest score, so that large scores do not overflow.
    """

    def __init__(self, params: SoftmaxParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        kind = inputs["tensor"]
        if kind.shape is not None and not -len(kind.shape) <= self._params.axis < len(kind.shape):
            raise ValueError(f"axis is {self._params.axis}, but the tensor has {len(kind.shape)} axes")
        return {"tensor": kind} if kind.kind == "tensor" else {}

    def run(self, tensor: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        if tensor.size == 0:
            return tensor
        scaled = tensor / np.float32(self._params.temperature)
        powers = np.exp(scaled - scaled.max(axis=self._params.axis, keepdims=True))
        result: NDArray[Any] = powers / powers.sum(axis=self._params.axis, keepdims=True)
        return result


class ArgMax:
    """The class with the greatest score, the first of equals, and that score."""

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, scores: NDArray[Any]) -> tuple[int, float]:
        best = int(_row_of(scores).argmax())
        return best, float(scores[0, best])


class Above:
    """Whether the score of the class `index` is above `threshold`; a score that is not a number is not."""

    def __init__(self, params: AboveParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        count = _class_count(inputs)
        if count is not None and self._params.index >= count:
            raise ValueError(f"index is {self._params.index}, but there are {count} classes")
        return {}

    def run(self, scores: NDArray[Any]) -> bool:
        row = _row_of(scores)
        if self._params.index >= len(row):
            raise InputError(f"expected more than {self._params.index} classes, got {len(row)}")
        # float32 0.9 lies below 0.9: compare in the scores' own precision, as training code does.
        return bool(row[self._params.index] > self._params.threshold)


class TopK:
    """The `k` classes with the greatest scores, best first, the first of equals first."""

    def __init__(self, params: TopKParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        count, labels = _class_count(inputs), self._params.labels
        if count is not None and labels and len(labels) != count:
            raise ValueError(f"there are {len(labels)} labels for {count} classes")
        return {}

    def run(self, scores: NDArray[Any]) -> list[dict[str, Any]]:
        import numpy as np

        row, labels = _row_of(scores), self._params.labels
        if labels and len(labels) != len(row):
            raise InputError(f"expected {len(labels)} classes, one for each label, got {len(row)}")
        best = np.argsort(-row, kind="stable")[: self._params.k]
        return [
            {"index": int(i), "label": labels[i] if labels else str(i), "score": float(row[i])} for i in best.tolist()
        ]


class Lookup:
    """The label of a class by its number."""

    def __init__(self, params: LookupParams) -> None:
        self._labels = params.labels

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, index: int) -> str:
        if not 0 <= index < len(self._labels):
            raise InputError(f"expected a class from 0 to {len(self._labels) - 1}, got {index}")
        return self._labels[index]


def _row_of(scores: NDArray[Any]) -> NDArray[Any]:
    if scores.ndim != 2 or scores.shape[0] != 1 or scores.shape[1] == 0:
        raise InputError(f"expected the scores of one sample, [1, classes], got {list(scores.shape)}")
    row: NDArray[Any] = scores[0]
    return row
