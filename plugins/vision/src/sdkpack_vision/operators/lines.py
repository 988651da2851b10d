"""Operators for text lines: cut out, turn, bring to one height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdkpack.errors import InputError
from sdkpack_vision.crop import crop_quad, quarter_turns, turn
from sdkpack_vision.lines import plan_lines
from sdkpack_vision.resize import resize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sdkpack.types import ValueType
    from sdkpack_vision.params import CropQuadParams, FitLinesParams, RotateParams

__all__ = ["CropQuad", "FitLines", "Rotate"]


class CropQuad:
    """Maps a quadrilateral onto an upright rectangle: as wide and high as its longer sides, cubic interpolation.

    Pixels outside the image repeat its border. With `upright_from`, a crop that is much higher than wide (a column of
    text) is turned counter-clockwise.
    """

    def __init__(self, params: CropQuadParams) -> None:
        self._upright_from = params.upright_from

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, image: NDArray[np.uint8], quad: NDArray[np.float32]) -> NDArray[np.uint8]:
        try:
            return crop_quad(image, quad, upright_from=self._upright_from)
        except ValueError as error:
            raise InputError(str(error), hint="filter the boxes before cutting") from error


class Rotate:
    """Turns an image by quarter turns, counter-clockwise. With `when` in a recipe: only where a condition holds."""

    def __init__(self, params: RotateParams) -> None:
        self._quarters = quarter_turns(params.degrees)

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return turn(image, self._quarters)


class FitLines:
    """Resizes text lines to one height and states the width to which each is to be padded.

    Recognisers are trained on padded batches and read a line differently when its padding changes, so padding is part
    of the answer: lines are ordered by aspect and grouped; a group's width is that of its widest line, cut to whole
    pixels, between `min_width_px` and `max_width_px`; a line is as wide as its aspect says, rounded up, but not wider
    than its group. Results stand in the order of the input. Feed both outputs to `image.to_tensor`.
    """

    def __init__(self, params: FitLinesParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {}

    def run(self, images: Sequence[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], list[int]]:
        params = self._params
        plans = plan_lines(
            [(image.shape[1], image.shape[0]) for image in images], height_px=params.height_px, group=params.group,
            min_width_px=params.min_width_px, max_width_px=params.max_width_px,
        )  # fmt: skip
        lines = [
            resize(image, plan.width_px, params.height_px, params.convention)
            for image, plan in zip(images, plans, strict=True)
        ]
        return lines, [plan.padded_px for plan in plans]
