"""Boxes from text detectors and from object detectors."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sdkpack_vision.boxes import enclosing_quad, offset_convex
from sdkpack_vision.nms import keep_best
from sdkpack_vision.operators.detections import DbBoxes, Nms
from sdkpack_vision.params import DbBoxesParams, NmsParams
from sdkpack_vision.resize import geometry

from sdkpack.errors import InputError
from sdkpack.types import ValueType

SAME = geometry((200, 100), (200, 100))


def heat_of(*rectangles: tuple[int, int, int, int], probability: float = 0.9) -> np.ndarray:
    heat = np.zeros((1, 1, 100, 200), np.float32)
    for left, top, right, bottom in rectangles:
        heat[0, 0, top:bottom, left:right] = probability
    return heat


def test_a_region_becomes_its_rectangle_enlarged() -> None:
    boxes, scores = DbBoxes(DbBoxesParams(dilate=False)).run(heat_of((40, 30, 101, 51)), SAME)
    # 60 x 20 between pixel centres: distance = 1200 * 1.6 / 160 = 12 on every side.
    assert len(boxes) == 1
    assert boxes[0].tolist() == [[28, 18], [112, 18], [112, 62], [28, 62]]
    assert boxes[0].dtype == np.float32
    assert scores == pytest.approx([0.9])


def test_boxes_are_mapped_to_the_image_before_the_resize() -> None:
    how = geometry((400, 300), (200, 100))
    boxes, _ = DbBoxes(DbBoxesParams(dilate=False)).run(heat_of((40, 30, 101, 51)), how)
    assert boxes[0].tolist() == [[56, 54], [224, 54], [224, 186], [56, 186]]


def test_boxes_are_mapped_through_an_offset() -> None:
    how = geometry((100, 40), (200, 80), (0, 10), (200, 100))
    boxes, _ = DbBoxes(DbBoxesParams(dilate=False)).run(heat_of((40, 30, 101, 51)), how)
    assert boxes[0].tolist() == [[14, 4], [56, 4], [56, 26], [14, 26]]


def test_boxes_stay_inside_the_image() -> None:
    boxes, _ = DbBoxes(DbBoxesParams()).run(heat_of((0, 0, 200, 30)), SAME)
    assert boxes[0].min() >= 0
    assert boxes[0][:, 0].max() == 199


@pytest.mark.parametrize(
    "heat",
    [
        heat_of(),
        heat_of((40, 30, 42, 50)),
        heat_of((40, 30, 101, 51), probability=0.4),
        np.full((1, 1, 100, 200), np.nan, np.float32),
        np.zeros((1, 1, 1, 1), np.float32),
    ],
    ids=["nothing", "too thin", "too faint", "not a number", "one pixel"],
)
def test_no_text_gives_no_boxes(heat: np.ndarray) -> None:
    assert DbBoxes(DbBoxesParams()).run(heat, SAME) == ([], [])


def test_several_maps_at_once_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected one probability map \[1, 1, H, W\], got \[2, 1, 4, 4\]"):
        DbBoxes(DbBoxesParams()).run(np.zeros((2, 1, 4, 4), np.float32), SAME)


def test_a_slanted_region_gives_a_slanted_box() -> None:
    heat = np.zeros((100, 200), np.float32)
    corners = cv2.boxPoints(((100, 50), (90, 14), 20.0))
    cv2.fillPoly(heat, [corners.astype(np.int32)], (1.0,))
    (box,), _ = DbBoxes(DbBoxesParams(dilate=False)).run(heat[None, None], SAME)
    slope = math.degrees(math.atan2(box[1][1] - box[0][1], box[1][0] - box[0][0]))
    assert slope == pytest.approx(20, abs=1)
    assert np.linalg.norm(box[1] - box[0]) == pytest.approx(90 + 2 * 9.7, abs=2)


@settings(max_examples=200)
@given(
    st.floats(5, 300),
    st.floats(5, 80),
    st.floats(-45, 45),
    st.floats(0.5, 60),
    st.tuples(st.integers(0, 500), st.integers(0, 500)),
)
def test_offset_points_keep_their_distance(
    width: float, height: float, angle: float, distance: float, centre: tuple[int, int]
) -> None:
    quad, _ = enclosing_quad(np.array(cv2.boxPoints((centre, (width, height), angle)), np.float32))
    polygon = [(int(x), int(y)) for x, y in quad]
    contour = np.array(polygon, np.int32)
    points = offset_convex(polygon, distance)
    assert len(points) >= 4
    for x, y in points.tolist():
        # Half a pixel of rounding each way; the distance is negative outside.
        assert -cv2.pointPolygonTest(contour, (x, y), True) == pytest.approx(distance, abs=0.75)


def test_the_offset_polygon_has_the_area_of_the_minkowski_sum() -> None:
    points = offset_convex([(0, 0), (400, 0), (400, 100), (0, 100)], 40.0)
    expected = 400 * 100 + 1000 * 40 + math.pi * 40**2
    assert cv2.contourArea(points) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("polygon", [[(1, 1)] * 4, [(0, 0), (5, 0), (5, 0), (0, 0)], [(0, 0), (3, 0), (9, 0), (5, 0)]])
def test_a_polygon_without_area_has_no_offset(polygon: list[tuple[int, int]]) -> None:
    assert len(offset_convex(polygon, 3.0)) == 0


def test_nms_equals_opencv() -> None:
    rng = np.random.default_rng(11)
    low = rng.uniform(0, 100, (300, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 40, (300, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(300).astype(np.float32)[:, None] / 300
    ours = [row for row, _ in keep_best(boxes, scores, score_threshold=0.2, iou_threshold=0.4, max_boxes=300)]
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    theirs = cv2.dnn.NMSBoxes(sides.tolist(), scores[:, 0].tolist(), 0.2, 0.4)
    assert ours == np.asarray(theirs).ravel().tolist()


def test_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[[0, 0, 10, 10], [1, 1, 11, 11]]], np.float32)
    scores = np.array([[[0.1, 0.9, 0.0], [0.1, 0.1, 0.8]]], np.float32)
    quads, best, classes = Nms(NmsParams(first_class=1, iou_threshold=0.3)).run(scores, boxes)
    assert best == pytest.approx([0.9, 0.8])
    assert classes == [1, 2]
    assert quads[1].tolist() == [[1, 1], [11, 1], [11, 11], [1, 11]]


def test_unit_boxes_are_mapped_back_and_clipped() -> None:
    boxes = np.array([[[0.25, 0.5, 1.5, 1.0]]], np.float32)
    how = geometry((640, 480), (320, 240))
    quads, _, _ = Nms(NmsParams(coordinates="unit")).run(np.array([[[0.9]]], np.float32), boxes, how)
    assert quads[0].tolist() == [[160, 240], [640, 240], [640, 480], [160, 480]]


@pytest.mark.parametrize("box_format", ["xywh", "cxcywh"])
def test_box_formats(box_format: str) -> None:
    given_box = [10, 20, 30, 40] if box_format == "xywh" else [25, 40, 30, 40]
    quads, _, _ = Nms(NmsParams(box_format=box_format)).run(  # type: ignore[arg-type]
        np.array([[[0.9]]], np.float32), np.array([[given_box]], np.float32)
    )
    assert quads[0][[0, 2]].tolist() == [[10, 20], [40, 60]]


def test_not_a_number_is_never_kept() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, np.nan, 1], [5, 5, 6, 6]]], np.float32)
    scores = np.array([[[np.nan], [0.9], [0.8]]], np.float32)
    quads, best, _ = Nms(NmsParams()).run(scores, boxes)
    assert best == pytest.approx([0.8])
    assert len(quads) == 1


@given(st.integers(0, 12), st.integers(1, 3), st.data())
def test_kept_boxes_do_not_overlap_much(count: int, classes: int, data: st.DataObject) -> None:
    number = st.floats(0, 50, width=32)
    low = np.array(data.draw(st.lists(st.tuples(number, number), min_size=count, max_size=count)), np.float32)
    boxes = np.concatenate([low.reshape(-1, 2), low.reshape(-1, 2) + 10], axis=1)
    scores = np.array(
        data.draw(st.lists(st.floats(0, 1, width=32), min_size=count * classes, max_size=count * classes)), np.float32
    ).reshape(count, classes)
    kept = keep_best(boxes, scores, score_threshold=0.3, iou_threshold=0.5, max_boxes=5)
    assert len(kept) <= 5
    for index, (row, column) in enumerate(kept):
        assert scores[row, column] > np.float32(0.3)
        for other, its_column in kept[:index]:
            shared = np.prod(np.maximum(10 - np.abs(boxes[row, :2] - boxes[other, :2]), 0))
            assert column != its_column or shared / (200 - shared) <= 0.5 + 1e-5


def test_nms_checks_its_inputs_before_a_run() -> None:
    scores = ValueType.parse("tensor(float32, [1, 9, 1])")
    with pytest.raises(ValueError, match="first_class is 1, but there are 1 classes"):
        Nms(NmsParams(first_class=1)).infer({"scores": scores})
    with pytest.raises(ValueError, match="needs the geometry"):
        Nms(NmsParams(coordinates="unit")).infer({"scores": scores})
