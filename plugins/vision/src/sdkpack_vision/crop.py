"""Cutting quadrilaterals out of an image, and quarter turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["crop_quad", "quarter_turns", "turn"]


def crop_quad(image: NDArray[np.uint8], quad: NDArray[np.float32], *, upright_from: float = 0.0) -> NDArray[np.uint8]:
    """Maps a quadrilateral onto an upright rectangle with cubic interpolation.

    The rectangle is as wide as the longer of the quad's upper and lower side and as high as the longer of its left and
    right one, both cut to whole pixels; pixels outside the image repeat its border.

    Args:
        image: uint8 HWC.
        quad: float32 [4, 2], pixels: top left, top right, bottom right, bottom left.
        upright_from: turn a result at least this many times higher than wide counter-clockwise; 0: never.

    Raises:
        ValueError: the quad has no area, or a corner is not finite.
    """
    import cv2

    corners = np.asarray(quad, np.float32)
    if corners.shape != (4, 2) or not np.isfinite(corners).all():
        raise ValueError(f"expected four finite corners, got {corners.tolist()}")
    top_left, top_right, bottom_right, bottom_left = corners
    width = int(max(np.linalg.norm(top_left - top_right), np.linalg.norm(bottom_right - bottom_left)))
    height = int(max(np.linalg.norm(top_left - bottom_left), np.linalg.norm(top_right - bottom_right)))
    if width < 1 or height < 1:
        raise ValueError(f"expected a quad of at least one pixel each way, got {width} x {height} pixels")
    rectangle = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, rectangle)
    crop = cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    result = np.asarray(crop, np.uint8)
    return turn(result, 1) if upright_from and height / width >= upright_from else result


def quarter_turns(degrees: int) -> int:
    """Quarter turns, counter-clockwise, in 0..3.

    Raises:
        ValueError: not a multiple of 90.
    """
    if degrees % 90:
        raise ValueError(f"expected a multiple of 90 degrees, got {degrees}")
    return (degrees // 90) % 4


def turn(image: NDArray[np.uint8], quarters: int) -> NDArray[np.uint8]:
    """Turns uint8 HWC counter-clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters % 4 else image
