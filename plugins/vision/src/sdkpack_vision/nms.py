"""Non-maximum suppression: of overlapping boxes the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["corners", "keep_best", "to_quads"]

_MAX_CANDIDATES = 20_000
"""Boxes looked at per class, best first: a detector with a threshold near 0 gives hundreds of thousands."""


def corners(boxes: NDArray[np.float32], box_format: str) -> NDArray[np.float32]:
    """float32 [N, 4] as left, top, right, bottom."""
    if box_format == "xyxy":
        return boxes
    first, size = boxes[:, :2], boxes[:, 2:]
    low = first - size / 2 if box_format == "cxcywh" else first
    return np.concatenate([low, low + size], axis=1)


def keep_best(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    score_threshold: float,
    iou_threshold: float,
    max_boxes: int,
) -> list[tuple[int, int]]:
    """Greedy suppression within each class.

    Args:
        boxes: float32 [N, 4], corners.
        scores: float32 [N, C].
        score_threshold: boxes with a score of this or less (or not a number) are dropped.
        iou_threshold: overlap above which the worse box is dropped.
        max_boxes: the most that are kept over all classes.

    Returns:
        Row and class of each kept box, best score first; ties by row, then class.
    """
    kept: list[tuple[int, int]] = []
    finite = np.isfinite(boxes).all(axis=1)
    for column in range(scores.shape[1]):
        rows = np.flatnonzero((scores[:, column] > score_threshold) & finite)
        order = rows[np.argsort(-scores[rows, column], kind="stable")][:_MAX_CANDIDATES]
        kept += [(row, column) for row in _suppress(boxes, order, iou_threshold, max_boxes)]
    kept.sort(key=lambda pair: (-float(scores[pair]), pair))
    return kept[:max_boxes]


def _suppress(boxes: NDArray[np.float32], order: NDArray[np.int64], iou_threshold: float, max_boxes: int) -> list[int]:
    boxes = boxes.astype(np.float64)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept: list[int] = []
    while len(order) and len(kept) < max_boxes:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(boxes[order, :2], boxes[best, :2])
        high = np.minimum(boxes[order, 2:], boxes[best, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[order] + areas[best] - shared
        order = order[shared <= iou_threshold * union]
    return kept


def to_quads(boxes: NDArray[np.float32], geometry: NDArray[np.float64] | None, *, unit: bool) -> NDArray[np.float32]:
    """Corners [N, 4] to quads float32 [N, 4, 2], in pixels of the image before the resize where `geometry` is given."""
    points = boxes.reshape(-1, 2, 2).astype(np.float64)
    if geometry is not None:
        scale, offset, source, canvas = geometry.reshape(4, 2)
        points = (points * canvas if unit else points) - offset
        points = np.clip(points * scale, 0, source)
    (left, top), (right, bottom) = points[:, 0].T, points[:, 1].T
    quads = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1)
    return quads.reshape(-1, 4, 2).astype(np.float32)
