"""Operators on boxes (quads: float32 [4, 2], corners clockwise from the top left)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sdkpack.builtin.operators.params import ReadingOrderParams
    from sdkpack.types import ValueType

__all__ = ["MapBack", "ReadingOrder"]


class ReadingOrder:
    """Sorts boxes by the height of their upper left corner; on one line, from left to right.

    Each box moves left past its neighbours as long as they stand on its line (closer than `line_px` in height) and
    begin right of it: an insertion, in which a slightly slanted line holds together from neighbour to neighbour.
    """

    def __init__(self, params: ReadingOrderParams) -> None:
        self._line_px = params.line_px

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, boxes: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[int]]:
        left = [float(box[0][0]) for box in boxes]
        top = [float(box[0][1]) for box in boxes]
        order: list[int] = []
        for place in sorted(range(len(boxes)), key=lambda place: (top[place], left[place])):
            at = len(order)
            while at and abs(top[place] - top[order[at - 1]]) < self._line_px and left[place] < left[order[at - 1]]:
                at -= 1
            order.insert(at, place)
        return [boxes[place] for place in order], order


class MapBack:
    """Maps boxes to the image before a resize, padding or cut, and clips them to it.

    `geometry` is float64 [8]: scale x, y, offset x, y, width and height before, width and height after; a point lies at
    `(point - offset) * scale` of the image before.
    """

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, boxes: Sequence[NDArray[Any]], geometry: NDArray[Any]) -> list[NDArray[Any]]:
        import numpy as np

        scale, offset, source, _ = geometry.reshape(4, 2)
        return [np.clip((box - offset) * scale, 0, source).astype(np.float32) for box in boxes]
