"""Resizing with a named convention, and the geometry that maps points back.

"Bilinear" is not one thing: Pillow widens its filter when it shrinks, OpenCV does not, and on a photograph the two
agree on about a third of the bytes. A network answers best to the convention it was trained with, so every resize
names the library's.

A **geometry** is a float64 array of 8: `scale_x, scale_y, offset_x, offset_y, source_width, source_height, width,
height`. A point `(x, y)` of the new image, which is `width` x `height` pixels large, lies at
`((x - offset_x) * scale_x, (y - offset_y) * scale_y)` of the image before, which is `source_width` x `source_height`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONVENTIONS",
    "ROUNDINGS",
    "center_crop",
    "fit_size",
    "geometry",
    "letterbox",
    "limited_size",
    "pad",
    "pad_to_aspect",
    "resize",
]

CONVENTIONS: Final = (
    "cv2.area", "cv2.cubic", "cv2.lanczos4", "cv2.linear", "cv2.linear_exact", "cv2.nearest", "cv2.nearest_exact",
    "pil.bicubic", "pil.bilinear", "pil.box", "pil.hamming", "pil.lanczos", "pil.nearest",
)  # fmt: skip
"""Library and filter, in the library's own words."""

ROUNDINGS: Final = ("ceil", "floor", "round")


def resize(image: NDArray[np.uint8], width_px: int, height_px: int, convention: str) -> NDArray[np.uint8]:
    """Resizes uint8 HWC to `height_px` x `width_px`, exactly as the named library does.

    Raises:
        ValueError: unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown resize convention {convention!r}, expected one of {', '.join(CONVENTIONS)}")
    if image.shape[:2] == (height_px, width_px):
        return image
    library, name = convention.split(".")
    if library == "pil":
        from PIL import Image

        resampling = Image.Resampling[name.upper()]
        return np.asarray(Image.fromarray(image).resize((width_px, height_px), resampling))
    import cv2

    flag: int = getattr(cv2, f"INTER_{name.upper()}")
    return np.asarray(cv2.resize(image, (width_px, height_px), interpolation=flag), np.uint8)


def _rounded(value: float, rounding: str) -> int:
    if rounding == "ceil":
        return math.ceil(value)
    return math.floor(value) if rounding == "floor" else round(value)


def fit_size(
    width: int, height: int, *, width_px: int = 0, height_px: int = 0, short_px: int = 0, rounding: str = "floor"
) -> tuple[int, int]:
    """Size after a resize that was told one side, or both: the side left 0 follows from the aspect.

    Args:
        width, height: the image's size.
        width_px, height_px: wanted size; 0 = from the aspect.
        short_px: wanted length of the shorter side, the other from the aspect.
        rounding: of the side that follows from the aspect.

    Returns:
        Width and height, each at least 1.
    """
    if short_px:
        width_px, height_px = (short_px, 0) if width <= height else (0, short_px)
    if width_px and not height_px:
        height_px = _rounded(width_px * (height / width), rounding)
    elif height_px and not width_px:
        width_px = _rounded(height_px * (width / height), rounding)
    return max(1, width_px), max(1, height_px)


def limited_size(
    width: int, height: int, *, side: str, limit_px: int, multiple_of: int = 1, always: bool = False
) -> tuple[int, int]:
    """Size after limiting one side: a longer `long` side shrinks to the limit, a shorter `short` side grows to it.

    Lengths are cut to whole pixels first, then rounded to the nearest multiple (ties to even), and are never
    less than one multiple.

    Args:
        width, height: the image's size.
        side: `long` (an upper limit) or `short` (a lower limit).
        limit_px: the limit.
        multiple_of: what both sides become a multiple of.
        always: round to the multiple even if the limit is kept already.
    """
    reference = max(width, height) if side == "long" else min(width, height)
    exceeded = reference > limit_px if side == "long" else reference < limit_px
    if not exceeded and not always:
        return width, height
    ratio = limit_px / reference if exceeded else 1.0
    lengths = (round(int(length * ratio) / multiple_of) * multiple_of for length in (width, height))
    new_width, new_height = (max(multiple_of, length) for length in lengths)
    return new_width, new_height


def geometry(
    source: tuple[int, int],
    content: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
    canvas: tuple[int, int] | None = None,
) -> NDArray[np.float64]:
    """The geometry of an image that was resized and put on a canvas.

    Args:
        source: width and height of the image before.
        content: what it was resized to.
        offset: where its top left corner lies on the canvas.
        canvas: width and height of the new image; the content's where absent.
    """
    scale = (source[0] / content[0], source[1] / content[1])
    return np.array([*scale, *offset, *source, *(canvas or content)], np.float64)


def pad(
    image: NDArray[np.uint8], *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, value: int = 0
) -> NDArray[np.uint8]:
    """Adds a border of one grey value."""
    height, width, channels = image.shape
    result = np.full((height + top + bottom, width + left + right, channels), value, np.uint8)
    result[top : top + height, left : left + width] = image
    return result


def letterbox(
    image: NDArray[np.uint8], width_px: int, height_px: int, *, value: int, convention: str, centre: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resizes to fit inside `width_px` x `height_px` with its aspect kept and fills the rest with `value`.

    Args:
        image: uint8 HWC.
        width_px, height_px: the new size.
        value: grey value of the border.
        convention: see `resize`.
        centre: image in the middle (an odd rest goes to the right and bottom), else at the top left.

    Returns:
        The image and its geometry.
    """
    height, width = image.shape[:2]
    ratio = min(width_px / width, height_px / height)
    new_width = min(width_px, max(1, round(width * ratio)))
    new_height = min(height_px, max(1, round(height * ratio)))
    resized = resize(image, new_width, new_height, convention)
    left = (width_px - new_width) // 2 if centre else 0
    top = (height_px - new_height) // 2 if centre else 0
    padded = pad(
        resized,
        top=top, bottom=height_px - new_height - top, left=left, right=width_px - new_width - left, value=value,
    )  # fmt: skip
    return padded, geometry((width, height), (new_width, new_height), (left, top), (width_px, height_px))


def pad_to_aspect(
    image: NDArray[np.uint8], *, max_aspect: float, min_height_px: int, value: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Pads flat images above and below, so that a detector sees room around a single line of text.

    An image wider than `max_aspect` times its height, or not higher than `min_height_px`, is brought to a height of
    twice `max(width / max_aspect, min_height_px)`; others stay as they are.

    Returns:
        The image and its geometry.
    """
    height, width = image.shape[:2]
    if height > min_height_px and width / height <= max_aspect:
        return image, geometry((width, height), (width, height))
    wanted = 2 * max(int(width / max_aspect), min_height_px)
    border = abs(wanted - height) // 2
    padded = pad(image, top=border, bottom=border, value=value)
    return padded, geometry((width, height), (width, height), (0, border), (width, height + 2 * border))


def center_crop(
    image: NDArray[np.uint8], width_px: int, height_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cuts the middle; the offset is rounded half to even, as in torchvision's `center_crop`.

    Returns:
        The cut and its geometry.

    Raises:
        ValueError: the image is smaller than the cut.
    """
    height, width = image.shape[:2]
    if width < width_px or height < height_px:
        raise ValueError(f"expected an image of at least {width_px} x {height_px} pixels, got {width} x {height}")
    top, left = round((height - height_px) / 2.0), round((width - width_px) / 2.0)
    cut = np.ascontiguousarray(image[top : top + height_px, left : left + width_px])
    return cut, geometry((width, height), (width, height), (-left, -top), (width_px, height_px))
