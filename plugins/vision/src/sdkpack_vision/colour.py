"""Colour spaces, in the scaling of the library that is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["convert_colour", "grey"]


def grey(image: NDArray[np.uint8], convention: str) -> NDArray[np.uint8]:
    """uint8 [H, W] of uint8 HWC, RGB, with the weights of ITU-R BT.601.

    `pil.grey` weighs with 16-bit, `cv2.grey` with 15-bit integers: a few pixels in a thousand differ by 1.
    """
    if convention == "pil.grey":
        from PIL import Image

        return np.asarray(Image.fromarray(image).convert("L"))
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def convert_colour(image: NDArray[np.uint8], to: str) -> NDArray[np.uint8]:
    """Converts uint8 HWC, RGB; grey is repeated over the three channels.

    Raises:
        ValueError: unknown colour space.
    """
    if to in ("pil.grey", "cv2.grey"):
        return np.repeat(grey(image, to)[:, :, None], 3, axis=2)
    if to == "bgr":
        return np.ascontiguousarray(image[:, :, ::-1])
    import cv2

    codes = {"cv2.hsv": cv2.COLOR_RGB2HSV, "cv2.lab": cv2.COLOR_RGB2LAB, "cv2.ycrcb": cv2.COLOR_RGB2YCrCb}
    if to not in codes:
        raise ValueError(f"unknown colour space {to!r}, expected bgr, pil.grey, cv2.grey, {', '.join(codes)}")
    return np.asarray(cv2.cvtColor(image, codes[to]), np.uint8)
