"""Operators from a detector's output to boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdkpack.errors import InputError
from sdkpack.types import ValueType
from sdkpack_vision.boxes import BoxRules, find_text_boxes
from sdkpack_vision.nms import corners, keep_best, to_quads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sdkpack_vision.params import DbBoxesParams, NmsParams

__all__ = ["DbBoxes", "Nms"]


class DbBoxes:
    """Finds text boxes in the probability map of a DB text detector, in pixels of the image before the resize.

    Binarise, optionally dilate, enclose each region in the rectangle of least area, drop those with a low mean
    probability, enlarge by `area * unclip_ratio / perimeter` with round corners, enclose again. Boxes are in whole
    pixels, clipped to the image; those below 4 pixels are dropped. Source: Liao et al., AAAI 2020, section 3.5.
    `geometry` is what the resize before the network gave.
    """

    def __init__(self, params: DbBoxesParams) -> None:
        self._rules = BoxRules(
            threshold=params.threshold, box_threshold=params.box_threshold, unclip_ratio=params.unclip_ratio,
            dilate=params.dilate, max_candidates=params.max_candidates,
        )  # fmt: skip

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(
        self, heat: NDArray[np.float32], geometry: NDArray[np.float64]
    ) -> tuple[list[NDArray[np.float32]], list[float]]:
        if heat.ndim != 4 or heat.shape[:2] != (1, 1):
            raise InputError(f"expected one probability map [1, 1, H, W], got {list(heat.shape)}")
        boxes, scores = find_text_boxes(heat[0, 0], geometry, self._rules)
        return list(boxes), [float(score) for score in scores]


class Nms:
    """Keeps the best of overlapping boxes, class by class, best first over all classes.

    A box goes when its intersection over union with a better one of its class is above `iou_threshold`. With
    `geometry` connected, boxes are given in pixels of the image before the resize. Scores that are not a number never
    pass the threshold.
    """

    def __init__(self, params: NmsParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        shape = inputs["scores"].shape if "scores" in inputs else None
        classes = shape[2] if shape is not None and len(shape) == 3 else "?"
        if isinstance(classes, int) and classes <= self._params.first_class:
            raise ValueError(f"first_class is {self._params.first_class}, but there are {classes} classes")
        if self._params.coordinates == "unit" and "geometry" not in inputs:
            raise ValueError("coordinates = 'unit' needs the geometry of the resized image")
        return {}

    def run(
        self,
        scores: NDArray[np.float32],
        boxes: NDArray[np.float32],
        geometry: NDArray[np.float64] | None = None,
    ) -> tuple[list[NDArray[np.float32]], list[float], list[int]]:
        params = self._params
        per_class = scores[0][:, params.first_class :]
        outlines = corners(boxes[0], params.box_format)
        kept = keep_best(
            outlines, per_class, score_threshold=params.score_threshold, iou_threshold=params.iou_threshold,
            max_boxes=params.max_boxes,
        )  # fmt: skip
        quads = to_quads(outlines[[row for row, _ in kept]], geometry, unit=params.coordinates == "unit")
        best = [float(per_class[row, column]) for row, column in kept]
        return list(quads), best, [column + params.first_class for _, column in kept]
