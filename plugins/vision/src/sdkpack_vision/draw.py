"""Boxes and texts drawn onto an image, for people to look at."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["draw"]


def draw(
    image: NDArray[np.uint8],
    boxes: Sequence[NDArray[np.float32]],
    texts: Sequence[str],
    *,
    colour: tuple[int, int, int],
    line_px: int,
    font_px: int,
    font: bytes = b"",
) -> bytes:
    """Draws outlines, and each text above its box, and encodes PNG.

    Args:
        image: uint8 HWC, RGB; not changed.
        boxes: quads, float32 [4, 2], in its pixels.
        texts: none, or one for each box.
        colour: RGB.
        line_px: width of the outline.
        font_px: size of the text.
        font: a TrueType or OpenType file; empty: Pillow's own.
    """
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(image).copy()
    pen = ImageDraw.Draw(canvas)
    lettering = _font(font, font_px) if texts else None
    for index, box in enumerate(boxes):
        points = [(float(x), float(y)) for x, y in np.nan_to_num(box, posinf=0.0, neginf=0.0)]
        pen.line([*points, points[0]], fill=colour, width=line_px, joint="curve")
        if texts:
            left, top = points[0]
            pen.text((left, max(0.0, top - line_px)), texts[index], fill=colour, font=lettering, anchor="ls")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _font(content: bytes, size_px: int) -> Any:
    from PIL import ImageFont

    if content:
        return ImageFont.truetype(io.BytesIO(content), size_px)
    return ImageFont.load_default(size_px)
