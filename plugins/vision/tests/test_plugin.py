"""The descriptors: complete, loadable, cheap."""

from __future__ import annotations

import dataclasses
import importlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sdkpack_vision import plugin
from sdkpack_vision.colour import convert_colour
from sdkpack_vision.operators.pixels import Draw
from sdkpack_vision.operators.sizes import LimitSide, Resize
from sdkpack_vision.params import DecodeParams, DrawParams, LimitSideParams, ResizeParams

from sdkpack.errors import InputError
from sdkpack.plugin import Operator, OperatorInfo
from sdkpack.types import ValueType

ROWS = plugin.sdkpack_operators()
NEEDED = {
    "ConvertColourParams": {"to": "bgr"},
    "ResizeParams": {"width_px": 4, "height_px": 4},
    "LimitSideParams": {"side": "long", "limit_px": 8},
    "LetterboxParams": {"width_px": 4, "height_px": 4},
    "CenterCropParams": {"width_px": 1, "height_px": 1},
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_operator_loads_and_is_documented(row: OperatorInfo) -> None:
    module, _, name = row.load.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert row.params is not None
    operator = found(row.params(**NEEDED.get(row.params.__name__, {})))
    assert isinstance(operator, Operator)
    assert len(found.__doc__) > 40
    for port in (*row.inputs, *row.outputs):
        ValueType.parse(port.type)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_params_are_frozen_and_have_defaults_or_are_needed(row: OperatorInfo) -> None:
    assert row.params is not None
    instance = row.params(**NEEDED.get(row.params.__name__, {}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(instance, dataclasses.fields(instance)[0].name, 1)


def test_listing_the_operators_imports_no_image_library() -> None:
    code = (
        "import sys; from sdkpack_vision import plugin; plugin.sdkpack_operators(); "
        "print([m for m in ('numpy', 'cv2', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("width", [0, 40_000])
def test_bounds_are_checked(width: int) -> None:
    with pytest.raises(ValueError, match=r"set either short_px|between"):
        ResizeParams(width_px=width)
    with pytest.raises(ValueError, match="background"):
        DecodeParams(background=(0, 0, 256))


def test_resize_and_its_geometry() -> None:
    image, how = Resize(ResizeParams(short_px=5, convention="cv2.area")).run(np.zeros((10, 30, 3), np.uint8))
    assert image.shape == (5, 15, 3)
    assert how.tolist() == [2, 2, 0, 0, 30, 10, 15, 5]


def test_a_resize_that_would_fill_the_memory_is_refused() -> None:
    line = np.zeros((1, 30_000, 3), np.uint8)
    with pytest.raises(InputError, match="would become"):
        LimitSide(LimitSideParams(side="short", limit_px=736)).run(line)


@pytest.mark.parametrize(("to", "mode"), [("cv2.hsv", None), ("pil.grey", "L"), ("cv2.grey", None), ("bgr", None)])
def test_colours(to: str, mode: str | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    result = convert_colour(image, to)
    assert result.shape == image.shape
    if mode:
        assert np.array_equal(result[:, :, 0], np.asarray(Image.fromarray(image).convert(mode)))
    if to == "bgr":
        assert np.array_equal(result[:, :, ::-1], image)


def test_the_two_greys_differ_by_at_most_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    difference = convert_colour(image, "pil.grey").astype(int) - convert_colour(image, "cv2.grey")
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_draw_changes_the_outline_and_nothing_else() -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    box = np.array([[10, 10], [50, 10], [50, 30], [10, 30]], np.float32)
    drawn = np.asarray(Image.open(io.BytesIO(Draw(DrawParams(line_px=1)).run(image, [box]))))
    assert drawn[10, 30].tolist() == [220, 30, 30]
    assert drawn[20, 30].tolist() == [255, 255, 255]
    assert (image == 255).all()


def test_draw_writes_texts() -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    box = np.array([[10, 25], [50, 25], [50, 35], [10, 35]], np.float32)
    plain = Draw(DrawParams()).run(image, [box])
    assert Draw(DrawParams()).run(image, [box], ["abc"]) != plain
    with pytest.raises(InputError, match="1 boxes, 2 texts"):
        Draw(DrawParams()).run(image, [box], ["a", "b"])
