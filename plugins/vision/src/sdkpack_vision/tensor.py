"""Pixels to the numbers that a network takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["lookup_tables", "to_tensor"]


def lookup_tables(scale: float, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """float32 [C, 256]: `(value * scale - mean) / std` for every byte, computed in double and rounded once."""
    values = np.arange(256, dtype=np.float64) * scale
    table = (values[None, :] - np.asarray(mean, np.float64)[:, None]) / np.asarray(std, np.float64)[:, None]
    return table.astype(np.float32)


def to_tensor(
    image: NDArray[np.uint8],
    tables: NDArray[np.float32],
    *,
    layout: str = "NCHW",
    reverse: bool = False,
    width_px: int = 0,
) -> NDArray[np.float32]:
    """Looks every byte up in its channel's table: one pass, no intermediate float image.

    Args:
        image: uint8 HWC with as many channels as `tables`.
        tables: of `lookup_tables`, in the order of the result's channels.
        layout: `NCHW` or `NHWC`.
        reverse: swap the channels' order (RGB to BGR).
        width_px: pad with 0 at the right to this width, where it is larger.

    Returns:
        float32 with a leading axis of 1.
    """
    import cv2

    height, width, channels = image.shape
    padded = max(width, width_px)
    result = np.empty((1, channels, height, padded), np.float32)
    result[:, :, :, width:] = 0
    for channel in range(channels):
        plane = cv2.extractChannel(image, channels - 1 - channel if reverse else channel)
        result[0, channel, :, :width] = cv2.LUT(plane, tables[channel])
    return result if layout == "NCHW" else np.ascontiguousarray(result.transpose(0, 2, 3, 1))
