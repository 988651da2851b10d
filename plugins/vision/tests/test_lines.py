"""Cutting, turning and sizing text lines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdkpack_vision.lines import plan_lines
from sdkpack_vision.operators.lines import CropQuad, FitLines, Rotate
from sdkpack_vision.params import CropQuadParams, FitLinesParams, RotateParams

from sdkpack.errors import InputError

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8)


def quad(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, np.float32)


def test_an_upright_quad_is_cut_as_it_is() -> None:
    crop = CropQuad(CropQuadParams()).run(IMAGE, quad((10, 5), (40, 5), (40, 25), (10, 25)))
    assert np.array_equal(crop, IMAGE[5:25, 10:40])


def test_a_slanted_quad_equals_opencv() -> None:
    corners = quad((12, 8), (70, 20), (66, 41), (8, 29))
    target = quad((0, 0), (59, 0), (59, 21), (0, 21))
    matrix = cv2.getPerspectiveTransform(corners, target)
    expected = cv2.warpPerspective(IMAGE, matrix, (59, 21), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    assert np.array_equal(CropQuad(CropQuadParams()).run(IMAGE, corners), expected)


def test_a_column_is_turned_counter_clockwise() -> None:
    corners = quad((10, 5), (20, 5), (20, 35), (10, 35))
    turned = CropQuad(CropQuadParams(upright_from=1.5)).run(IMAGE, corners)
    assert np.array_equal(turned, np.rot90(IMAGE[5:35, 10:20]))


@pytest.mark.parametrize(
    "corners",
    [
        quad((1, 1), (1, 1), (1, 1), (1, 1)),
        quad((0, 0), (float("nan"), 0), (5, 5), (0, 5)),
        quad((0, 0), (float("inf"), 0), (5, 5), (0, 5)),
        quad((0, 0), (9, 0), (9, 0.5), (0, 0.5)),
    ],
)
def test_a_quad_without_area_is_refused(corners: np.ndarray) -> None:
    with pytest.raises(InputError):
        CropQuad(CropQuadParams()).run(IMAGE, corners)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3)])
def test_quarter_turns(degrees: int, quarters: int) -> None:
    assert np.array_equal(Rotate(RotateParams(degrees=degrees)).run(IMAGE), np.rot90(IMAGE, quarters))  # type: ignore[arg-type]


def test_lines_of_one_group_share_the_width_of_the_widest() -> None:
    sizes = [(100, 10), (355, 13), (20, 20), (90, 9)]
    plans = plan_lines(sizes, height_px=48, group=3, min_width_px=320, max_width_px=4096)
    # Aspects 10, 27.3, 1, 10: the three narrowest come first; the widest line is cut to whole pixels, not rounded up.
    assert [plan.padded_px for plan in plans] == [480, 1310, 480, 480]
    assert [plan.width_px for plan in plans] == [480, 1310, 48, 480]


def test_a_line_that_is_not_the_widest_is_rounded_up() -> None:
    plans = plan_lines([(31, 10), (200, 10)], height_px=48, group=6, min_width_px=320, max_width_px=4096)
    assert [plan.width_px for plan in plans] == [149, 960]


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 200)), max_size=20),
    st.integers(1, 7),
    st.integers(1, 400),
)
def test_every_line_fits_its_group(sizes: list[tuple[int, int]], group: int, least: int) -> None:
    plans = plan_lines(sizes, height_px=48, group=group, min_width_px=least, max_width_px=2000)
    assert len(plans) == len(sizes)
    for plan in plans:
        assert 1 <= plan.width_px <= plan.padded_px
        assert least <= plan.padded_px <= 2000


def test_no_lines_give_no_lines() -> None:
    assert FitLines(FitLinesParams()).run([]) == ([], [])


def test_lines_are_resized_in_place_of_the_list() -> None:
    lines, widths = FitLines(FitLinesParams(height_px=10, min_width_px=20)).run([IMAGE, IMAGE[:1, :1], IMAGE[:10]])
    assert [line.shape for line in lines] == [(10, 15, 3), (10, 10, 3), (10, 90, 3)]
    assert widths == [90, 90, 90]


def test_a_least_width_above_the_greatest_is_refused() -> None:
    with pytest.raises(ValueError, match="above max_width_px"):
        FitLinesParams(min_width_px=300, max_width_px=200)
