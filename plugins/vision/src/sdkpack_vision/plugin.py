"""The image operators' descriptors. Importing this module imports neither OpenCV nor Pillow nor NumPy."""

from __future__ import annotations

from typing import Any, Final

from sdkpack.plugin import OperatorInfo, Port, hookimpl
from sdkpack_vision import params

SDKPACK_API: Final = (1, 0)

_REQUIRES: Final = ("numpy>=2.0", "opencv-python-headless>=4.10,<5", "pillow>=11")
_IMAGE: Final = Port(name="image", type="image")
_GEOMETRY: Final = Port(name="geometry", type="geometry")
_QUADS: Final = Port(name="boxes", type="list(quad)")
_SCORES: Final = Port(name="scores", type="list(float)")


def _row(
    name: str, summary: str, load: str, made_with: type[Any], inputs: tuple[Port, ...], outputs: tuple[Port, ...]
) -> OperatorInfo:
    return OperatorInfo(
        name=name, summary=summary, load=f"sdkpack_vision.operators.{load}", params=made_with, inputs=inputs,
        outputs=outputs, requires=_REQUIRES,
    )  # fmt: skip


@hookimpl
def sdkpack_operators() -> list[OperatorInfo]:
    return [*_source_rows(), *_size_rows(), *_line_rows(), *_detection_rows()]


def _source_rows() -> list[OperatorInfo]:
    return [
        _row(
            "image.decode", "Decodes a PNG, JPEG, BMP, WebP, TIFF or GIF file, upright by EXIF.", "pixels:Decode",
            params.DecodeParams, (Port(name="encoded", type="image/encoded"),), (_IMAGE,),
        ),
        _row(
            "image.convert_colour", "Converts RGB to another colour space.", "pixels:ConvertColour",
            params.ConvertColourParams, (_IMAGE,), (_IMAGE,),
        ),
        _row(
            "image.to_tensor", "Scales and normalises pixels to a float32 tensor with a leading axis of 1.",
            "pixels:ToTensor", params.ToTensorParams, (_IMAGE, Port(name="width_px", type="int", optional=True)),
            (Port(name="tensor", type="tensor(float32, [1, ?, ?, ?])"),),
        ),
        _row(
            "image.draw", "Draws boxes and texts onto an image and encodes it as PNG.", "pixels:Draw",
            params.DrawParams, (_IMAGE, _QUADS, Port(name="texts", type="list(string)", optional=True)),
            (Port(name="encoded", type="image/encoded"),),
        ),
    ]  # fmt: skip


def _size_rows() -> list[OperatorInfo]:
    sized = (_IMAGE, _GEOMETRY)
    return [
        _row(
            "image.resize", "Resizes with a named convention.", "sizes:Resize", params.ResizeParams, (_IMAGE,), sized
        ),
        _row(
            "image.limit_side", "Limits the longer or shorter side and rounds both to a multiple.",
            "sizes:LimitSide", params.LimitSideParams, (_IMAGE,), sized,
        ),
        _row(
            "image.letterbox", "Fits an image into a size with its aspect kept and pads the rest.",
            "sizes:Letterbox", params.LetterboxParams, (_IMAGE,), sized,
        ),
        _row(
            "image.pad_to_aspect", "Pads very flat images above and below.", "sizes:PadToAspect",
            params.PadToAspectParams, (_IMAGE,), sized,
        ),
        _row(
            "image.center_crop", "Cuts the middle of an image.", "sizes:CenterCrop", params.CenterCropParams,
            (_IMAGE,), sized,
        ),
    ]  # fmt: skip


def _line_rows() -> list[OperatorInfo]:
    return [
        _row(
            "image.crop_quad", "Cuts a quadrilateral out of an image, straightened.", "lines:CropQuad",
            params.CropQuadParams, (_IMAGE, Port(name="quad", type="quad")), (Port(name="crop", type="image"),),
        ),
        _row(
            "image.rotate", "Turns an image by quarter turns, counter-clockwise.", "lines:Rotate",
            params.RotateParams, (_IMAGE,), (_IMAGE,),
        ),
        _row(
            "image.fit_lines", "Resizes text lines to one height and states the width to pad each to.",
            "lines:FitLines", params.FitLinesParams, (Port(name="images", type="list(image)"),),
            (Port(name="lines", type="list(image)"), Port(name="widths_px", type="list(int)")),
        ),
    ]  # fmt: skip


def _detection_rows() -> list[OperatorInfo]:
    return [
        _row(
            "text.db_boxes", "Finds text boxes in the probability map of a DB text detector.",
            "detections:DbBoxes", params.DbBoxesParams,
            (Port(name="heat", type="tensor(float32, [1, 1, ?, ?])"), _GEOMETRY), (_QUADS, _SCORES),
        ),
        _row(
            "boxes.nms", "Keeps the best of overlapping boxes (non-maximum suppression), class by class.",
            "detections:Nms", params.NmsParams,
            (
                Port(name="scores", type="tensor(float32, [1, N, ?])"),
                Port(name="boxes", type="tensor(float32, [1, N, 4])"),
                Port(name="geometry", type="geometry", optional=True),
            ),
            (_QUADS, _SCORES, Port(name="classes", type="list(int)")),
        ),
    ]  # fmt: skip
