"""The operators through the conformance kit, as any vendor's."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from sdkpack.testing import OperatorConformance

PICTURE = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)


class TestDecode(OperatorConformance):
    operator = "image.decode"

    def examples(self) -> list[tuple[Any, ...]]:
        stream = io.BytesIO()
        Image.fromarray(PICTURE).save(stream, "PNG")
        return [(stream.getvalue(),)]


class TestResize(OperatorConformance):
    operator = "image.resize"
    params: ClassVar[dict[str, Any]] = {"width_px": 8, "height_px": 6, "convention": "pil.bilinear"}


class TestToTensor(OperatorConformance):
    operator = "image.to_tensor"

    def examples(self) -> list[tuple[Any, ...]]:
        return [(PICTURE, None), (PICTURE, 16)]


class TestConvertColour(OperatorConformance):
    operator = "image.convert_colour"
    params: ClassVar[dict[str, Any]] = {"to": "cv2.hsv"}


class TestCropQuad(OperatorConformance):
    operator = "image.crop_quad"
