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
    image: NDArray[np.uint8], tables: NDArray[np.float32], *, layout: str = "CHW", reverse: bool = False
) -> NDArray[np.float32]:
    """Looks every byte of uint8 HWC up in its channel's table: one pass, no intermediate float image.

    Args:
        image: uint8 HWC with as many channels as `tables`.
        tables: of `lookup_tables`, in the order of the result's channels.
        layout: `CHW` or `HWC`.
        reverse: swap the channels' order (RGB to BGR).
    """
    import cv2

    if reverse:
        image = image[:, :, ::-1]
    height, width, channels = image.shape
    if layout == "HWC":
        result = np.empty((height, width, channels), np.float32)
        for channel in range(channels):
            result[:, :, channel] = tables[channel][image[:, :, channel]]
        return result
    result = np.empty((channels, height, width), np.float32)
    for channel in range(channels):
        plane = cv2.extractChannel(image, channel) if not reverse else np.ascontiguousarray(image[:, :, channel])
        cv2.LUT(plane, tables[channel], dst=result[channel])
    return result
