"""Sizes, conventions and the geometry that maps back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sdkpack_vision.params import Convention
from sdkpack_vision.resize import (
    CONVENTIONS,
    center_crop,
    fit_size,
    geometry,
    letterbox,
    limited_size,
    pad_to_aspect,
    resize,
)

IMAGE = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("size", [(20, 11), (91, 64), (1, 1)])
def test_each_convention_is_bit_exact_with_its_library(convention: str, size: tuple[int, int]) -> None:
    library, name = convention.split(".")
    if library == "pil":
        expected = np.asarray(Image.fromarray(IMAGE).resize(size, Image.Resampling[name.upper()]))
    else:
        expected = cv2.resize(IMAGE, size, interpolation=getattr(cv2, f"INTER_{name.upper()}"))
    assert np.array_equal(resize(IMAGE, *size, convention), expected)


def test_the_two_bilinear_conventions_are_not_one() -> None:
    assert (resize(IMAGE, 20, 11, "pil.bilinear") == resize(IMAGE, 20, 11, "cv2.linear")).mean() < 0.5


def test_the_parameter_lists_every_convention() -> None:
    assert tuple(sorted(Convention.__args__)) == tuple(sorted(CONVENTIONS))


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown resize convention"):
        resize(IMAGE, 2, 2, "torch.bilinear")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width_px": 10, "height_px": 7}, (10, 7)),
        ({"height_px": 48}, (96, 48)),
        ({"width_px": 33}, (33, 16)),
        ({"width_px": 33, "rounding": "ceil"}, (33, 17)),
        ({"short_px": 25}, (50, 25)),
    ],
)
def test_one_side_follows_from_the_other(options: dict[str, int], expected: tuple[int, int]) -> None:
    assert fit_size(200, 100, **options) == expected  # type: ignore[arg-type]


def test_a_side_is_never_zero() -> None:
    assert fit_size(10_000, 1, width_px=5) == (5, 1)


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((384, 191), {"side": "short", "limit_px": 736, "multiple_of": 32}, (1472, 736)),
        ((4000, 1000), {"side": "long", "limit_px": 2000, "multiple_of": 32}, (1984, 512)),
        ((100, 50), {"side": "long", "limit_px": 2000, "multiple_of": 32}, (100, 50)),
        ((100, 50), {"side": "long", "limit_px": 2000, "multiple_of": 32, "always": True}, (96, 64)),
        ((5000, 3), {"side": "long", "limit_px": 2000, "multiple_of": 32}, (1984, 32)),
        ((48, 16), {"side": "long", "limit_px": 99, "multiple_of": 32, "always": True}, (64, 32)),
    ],
)
def test_a_side_is_limited(size: tuple[int, int], options: dict[str, object], expected: tuple[int, int]) -> None:
    assert limited_size(*size, **options) == expected  # type: ignore[arg-type]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64), st.booleans())
def test_letterbox_maps_its_content_back_onto_the_source(
    width: int, height: int, to_width: int, to_height: int, centre: bool
) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    boxed, how = letterbox(image, to_width, to_height, value=7, convention="cv2.nearest", centre=centre)
    assert boxed.shape == (to_height, to_width, 3)
    rows, columns = np.nonzero(boxed[:, :, 0] == 200)
    scale, offset, source, canvas = how.reshape(4, 2)
    low = (np.array([columns.min(), rows.min()]) - offset) * scale
    high = (np.array([columns.max() + 1, rows.max() + 1]) - offset) * scale
    assert np.allclose(low, 0)
    assert np.allclose(high, source)
    assert canvas.tolist() == [to_width, to_height]


@pytest.mark.parametrize(
    ("size", "expected", "border"),
    [((1618, 208), (1618, 208), 0), ((700, 30), (700, 174), 72), ((445, 39), (445, 109), 35), ((20, 30), (20, 60), 15)],
)
def test_flat_images_are_padded(size: tuple[int, int], expected: tuple[int, int], border: int) -> None:
    image = np.full((size[1], size[0], 3), 9, np.uint8)
    padded, how = pad_to_aspect(image, max_aspect=8.0, min_height_px=30, value=0)
    assert (padded.shape[1], padded.shape[0]) == expected
    assert how[3] == border
    assert np.array_equal(padded[border : border + size[1]], image)


def test_center_crop_cuts_the_middle() -> None:
    cut, how = center_crop(IMAGE, 10, 8)
    assert np.array_equal(cut, IMAGE[14:22, 22:32])
    assert how.tolist() == [1, 1, -22, -14, 53, 37, 10, 8]


def test_center_crop_refuses_a_small_image() -> None:
    with pytest.raises(ValueError, match="at least 60 x 8 pixels, got 53 x 37"):
        center_crop(IMAGE, 60, 8)


def test_geometry_without_a_canvas_is_that_of_a_plain_resize() -> None:
    assert geometry((100, 50), (200, 200)).tolist() == [0.5, 0.25, 0, 0, 100, 50, 200, 200]
