"""Text boxes from the probability map of a differentiable-binarisation (DB) text detector.

Source: Liao et al., Real-time Scene Text Detection with Differentiable Binarization, AAAI 2020, section 3.5 (label
and box formation): binarise, take each connected region, enclose it, and enlarge the region by
`distance = area * ratio / perimeter`, because the network was trained on shrunk regions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BoxRules", "enclosing_quad", "find_text_boxes", "offset_convex", "region_score"]

_MIN_REGION_PX: Final = 3.0
"""A shorter side below this many pixels of the map is noise."""
_MIN_ENLARGED_PX: Final = 5.0
_MIN_BOX_PX: Final = 4
"""Boxes less wide or high than this in the image hold no readable text."""
_ARC_TOLERANCE_PX: Final = 0.25
"""How far a chord may lie inside the arc that rounds a corner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRules:
    """How text is told from background."""

    threshold: float = 0.3
    """A map pixel above this is text."""
    box_threshold: float = 0.5
    """Least mean probability inside a box."""
    unclip_ratio: float = 1.6
    """Enlargement, in units of area / perimeter."""
    dilate: bool = True
    """Join text pixels with those right of and below them."""
    max_candidates: int = 1000
    """Regions looked at."""


def find_text_boxes(
    heat: NDArray[np.float32], geometry: NDArray[np.float64], rules: BoxRules
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Finds the text boxes of one probability map.

    Args:
        heat: float32 [H, W], probability of text.
        geometry: how the image that the map is of was made (see `sdkpack_vision.resize`); boxes are mapped back.
        rules: thresholds.

    Returns:
        Boxes float32 [N, 4, 2] in whole pixels, corners top left, top right, bottom right, bottom left, in no
        meaningful order of boxes; and their scores, float32 [N].
    """
    import cv2

    mask = (heat > rules.threshold).astype(np.uint8)
    if rules.dilate:
        mask = cv2.dilate(mask, np.ones((2, 2), np.uint8)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes: list[NDArray[np.float32]] = []
    scores: list[float] = []
    for contour in contours[: rules.max_candidates]:
        quad, short_side = enclosing_quad(np.asarray(contour, np.int32))
        if short_side < _MIN_REGION_PX:
            continue
        score = region_score(heat, quad)
        if score < rules.box_threshold:
            continue
        box = _source_box(quad, geometry, rules.unclip_ratio)
        if box is not None:
            boxes.append(box)
            scores.append(score)
    return np.array(boxes, np.float32).reshape(-1, 4, 2), np.array(scores, np.float32)


def _source_box(
    quad: NDArray[np.float32], geometry: NDArray[np.float64], unclip_ratio: float
) -> NDArray[np.float32] | None:
    enlarged = _enlarge(quad, unclip_ratio)
    if len(enlarged) < 3:
        return None
    box, short_side = enclosing_quad(enlarged)
    if short_side < _MIN_ENLARGED_PX:
        return None
    scale, offset, source, _ = geometry.reshape(4, 2)
    limits = source.astype(np.float32)
    # Dividing by the resized size first keeps float32 roundings at .5 where training-time code has them.
    content = np.round(source / scale).astype(np.float32)
    scaled = np.clip(np.round((box - offset.astype(np.float32)) / content * limits), 0, limits)
    ordered = np.clip(_clockwise(scaled), 0, limits - 1)
    if min(_length(ordered[0], ordered[1]), _length(ordered[0], ordered[3])) < _MIN_BOX_PX:
        return None
    return ordered


def _length(first: NDArray[np.float32], second: NDArray[np.float32]) -> int:
    return int(np.linalg.norm(first - second))


def enclosing_quad(points: NDArray[np.int32] | NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """The rectangle of least area around the points: its corners (top left first, clockwise) and its shorter side."""
    import cv2

    rectangle = cv2.minAreaRect(points)
    corners = np.asarray(cv2.boxPoints(rectangle), np.float32)
    return _clockwise(corners), float(min(rectangle[1]))


def _clockwise(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orders four corners: the two leftmost are the left side, the two others the right; upper before lower."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.array([top_left, top_right, bottom_right, bottom_left], np.float32)


def region_score(heat: NDArray[np.float32], quad: NDArray[np.float32]) -> float:
    """Mean probability of the map's pixels inside the quad."""
    import cv2

    height, width = heat.shape
    low = np.clip(np.floor(quad.min(axis=0)).astype(np.int64), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(quad.max(axis=0)).astype(np.int64), 0, (width - 1, height - 1))
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    cv2.fillPoly(mask, [(quad - low.astype(np.float32)).astype(np.int32)], (1,))
    window = heat[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return float(cv2.mean(window, mask)[0])


def _enlarge(quad: NDArray[np.float32], ratio: float) -> NDArray[np.int32]:
    corners = quad.astype(np.float64)
    following = np.roll(corners, -1, axis=0)
    area = abs(float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))) / 2
    perimeter = float(np.sum(np.hypot(*(following - corners).T)))
    # The polygon is offset on the pixel grid: corners are cut to whole pixels before, points rounded after.
    return offset_convex([(int(x), int(y)) for x, y in corners], area * ratio / perimeter)


def offset_convex(polygon: Sequence[tuple[int, int]], distance: float) -> NDArray[np.int32]:
    """Points of a convex polygon grown by `distance` with round corners, on the pixel grid.

    The corner at which two sides meet becomes an arc from the end of one side's outer normal to the other's, in
    chords that stay within 0.25 px of it. The points lie on the outline of the Minkowski sum of polygon and disc, so
    no clipping is needed as long as the polygon is convex.

    Args:
        polygon: corners, clockwise on screen (y down); repeated corners count once.
        distance: pixels, not negative.

    Returns:
        int32 [N, 2]; empty for a polygon without area.
    """
    corners = [point for index, point in enumerate(polygon) if point != polygon[index - 1]]
    if len(corners) < 3 or _double_area(corners) == 0:
        return np.empty((0, 2), np.int32)
    steps_per_radian = _steps_per_radian(distance)
    normals = [_outer_normal(corner, corners[(index + 1) % len(corners)]) for index, corner in enumerate(corners)]
    points = [
        point
        for index, corner in enumerate(corners)
        for point in _corner_arc(corner, normals[index - 1], normals[index], distance, steps_per_radian)
    ]
    return np.array(points, np.int32)


def _steps_per_radian(distance: float) -> float:
    if distance <= 0:
        return 0.0
    chord_angle = 2 * math.acos(1 - _ARC_TOLERANCE_PX * min(1.0, distance) / distance)
    return min(1 / chord_angle, distance / 2)  # not finer than a pixel or so


def _double_area(corners: Sequence[tuple[int, int]]) -> int:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, [*corners[1:], corners[0]], strict=True))


def _outer_normal(start: tuple[int, int], end: tuple[int, int]) -> tuple[float, float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    return dy / length, -dx / length


def _corner_arc(
    corner: tuple[int, int],
    before: tuple[float, float],
    after: tuple[float, float],
    distance: float,
    steps_per_radian: float,
) -> list[tuple[int, int]]:
    turn = math.atan2(before[0] * after[1] - before[1] * after[0], before[0] * after[0] + before[1] * after[1])
    steps = max(1, math.floor(steps_per_radian * abs(turn) + 0.5))
    start = math.atan2(before[1], before[0])
    step = 1 / steps_per_radian if steps_per_radian else 0.0
    angles = [start + step * index for index in range(steps)] + [start + turn]
    return [
        (_nearest(corner[0] + distance * math.cos(angle)), _nearest(corner[1] + distance * math.sin(angle)))
        for angle in angles
    ]


def _nearest(value: float) -> int:
    """Half away from zero."""
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)
