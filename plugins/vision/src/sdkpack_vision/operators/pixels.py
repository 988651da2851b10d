"""Operators between files, pixels and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sdkpack.errors import InputError
from sdkpack.types import ValueType
from sdkpack_vision.colour import convert_colour, grey
from sdkpack_vision.decode import decode_image
from sdkpack_vision.draw import draw
from sdkpack_vision.tensor import lookup_tables, to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sdkpack_vision.params import ConvertColourParams, DecodeParams, DrawParams, ToTensorParams

__all__ = ["ConvertColour", "Decode", "Draw", "ToTensor"]


class Decode:
    """Decodes an image file to uint8 HWC, RGB, upright.

    16-bit samples keep their upper 8 bits; grey is repeated over three channels; palettes are looked up; CMYK is
    converted without a colour profile; transparent pixels show `background`. JPEG decoders may differ in the last bit
    between libjpeg builds: a bundle's recorded runs start behind this step where that matters.
    """

    def __init__(self, params: DecodeParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, encoded: bytes) -> NDArray[np.uint8]:
        params = self._params
        return decode_image(
            bytes(encoded),
            apply_exif=params.apply_exif,
            background=params.background,
            frames=params.frames,
            max_pixels=params.max_pixels,
        )


class ConvertColour:
    """Converts RGB to another colour space, 8 bits a channel, in the named library's scaling (hue in 0..179, ...)."""

    def __init__(self, params: ConvertColourParams) -> None:
        self._to = params.to

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return convert_colour(image, self._to)


class ToTensor:
    """Computes `(pixel * scale - mean) / std` and puts channels where the network wants them.

    The value of every byte is computed in double precision and rounded once to float32. Where `width_px` is connected,
    the tensor is padded at the right with 0 (not with black) to that width.
    """

    def __init__(self, params: ToTensorParams) -> None:
        self._channels = params.channels
        self._layout = params.layout
        self._tables = lookup_tables(params.factor, params.per_channel("mean"), params.per_channel("std"))

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        count = 1 if self._channels == "grey" else 3
        shape: tuple[int | str, ...] = (1, count, "?", "?") if self._layout == "NCHW" else (1, "?", "?", count)
        return {"tensor": ValueType(kind="tensor", dtype="float32", shape=shape)}

    def run(self, image: NDArray[np.uint8], width_px: int | None = None) -> NDArray[np.float32]:
        if width_px is not None and width_px < image.shape[1]:
            raise InputError(
                f"an image of {image.shape[1]} pixels width cannot be padded to {width_px}",
                hint="connect the widths that image.fit_lines gave for the same images",
            )
        pixels = grey(image, "pil.grey")[:, :, None] if self._channels == "grey" else image
        return to_tensor(
            pixels, self._tables, layout=self._layout, reverse=self._channels == "bgr", width_px=width_px or 0
        )


class Draw:
    """Draws each box's outline and the text belonging to it onto the image; gives a PNG file's bytes."""

    def __init__(self, params: DrawParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, image: NDArray[np.uint8], boxes: Sequence[Any], texts: Sequence[str] | None = None) -> bytes:
        if texts is not None and len(texts) != len(boxes):
            raise InputError(
                f"boxes and texts differ in number: got {len(boxes)} boxes, {len(texts)} texts",
                hint="draw lists that belong together, before or after filtering",
            )
        params = self._params
        return draw(
            image, boxes, texts or (), colour=params.colour, line_px=params.line_px, font_px=params.font_px,
            font=params.font,
        )  # fmt: skip
