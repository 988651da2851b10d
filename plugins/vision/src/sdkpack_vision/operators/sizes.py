"""Operators that change an image's size and say how points map back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdkpack.errors import InputError
from sdkpack_vision.resize import center_crop, fit_size, geometry, letterbox, limited_size, pad_to_aspect, resize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sdkpack.types import ValueType
    from sdkpack_vision.params import (
        CenterCropParams,
        LetterboxParams,
        LimitSideParams,
        PadToAspectParams,
        ResizeParams,
    )

    Sized = tuple[NDArray[np.uint8], NDArray[np.float64]]

__all__ = ["CenterCrop", "Letterbox", "LimitSide", "PadToAspect", "Resize"]

# A line of text 40,000 pixels long and 2 high, limited at its short side, would ask for 10 GB.
_MAX_PIXELS = 178_956_970


class _Sizing:
    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}


def _resized(image: NDArray[np.uint8], width: int, height: int, convention: str) -> Sized:
    if width * height > _MAX_PIXELS:
        raise InputError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels would become {width} x {height}, "
            f"expected at most {_MAX_PIXELS} pixels",
            hint="cut the image, or limit its longer side first (image.limit_side)",
        )
    return resize(image, width, height, convention), geometry((image.shape[1], image.shape[0]), (width, height))


class Resize(_Sizing):
    """Resizes to a width and height, to one of them with the aspect kept, or to a length of the shorter side.

    Bit-exact with the library that the convention names, at the version installed.
    """

    def __init__(self, params: ResizeParams) -> None:
        self._params = params

    def run(self, image: NDArray[np.uint8]) -> Sized:
        params = self._params
        width, height = fit_size(
            image.shape[1], image.shape[0], width_px=params.width_px, height_px=params.height_px,
            short_px=params.short_px, rounding=params.rounding,
        )  # fmt: skip
        return _resized(image, width, height, params.convention)


class LimitSide(_Sizing):
    """Brings the longer side down, or the shorter side up, to a limit and rounds both to a multiple.

    Lengths are cut to whole pixels, then rounded to the nearest multiple (ties to even): what fully convolutional
    networks need, whose input must be a multiple of their stride.
    """

    def __init__(self, params: LimitSideParams) -> None:
        self._params = params

    def run(self, image: NDArray[np.uint8]) -> Sized:
        params = self._params
        width, height = limited_size(
            image.shape[1], image.shape[0], side=params.side, limit_px=params.limit_px,
            multiple_of=params.multiple_of, always=params.always,
        )  # fmt: skip
        return _resized(image, width, height, params.convention)


class Letterbox(_Sizing):
    """Resizes to fit inside a size with the aspect kept; a border of one grey value fills the rest."""

    def __init__(self, params: LetterboxParams) -> None:
        self._params = params

    def run(self, image: NDArray[np.uint8]) -> Sized:
        params = self._params
        return letterbox(
            image, params.width_px, params.height_px, value=params.value, convention=params.convention,
            centre=params.centre,
        )  # fmt: skip


class PadToAspect(_Sizing):
    """Pads an image that is very flat, or not high, above and below: to twice the height that `max_aspect` asks for.

    Text detectors miss a line of text that fills the whole image.
    """

    def __init__(self, params: PadToAspectParams) -> None:
        self._params = params

    def run(self, image: NDArray[np.uint8]) -> Sized:
        params = self._params
        return pad_to_aspect(
            image, max_aspect=params.max_aspect, min_height_px=params.min_height_px, value=params.value
        )


class CenterCrop(_Sizing):
    """Cuts the middle; an odd rest is split as torchvision does."""

    def __init__(self, params: CenterCropParams) -> None:
        self._params = params

    def run(self, image: NDArray[np.uint8]) -> Sized:
        try:
            return center_crop(image, self._params.width_px, self._params.height_px)
        except ValueError as error:
            raise InputError(str(error), hint="resize the image first (image.resize with short_px)") from error
