"""What a recipe may set of the image operators.

Standard library only: the descriptors are read whenever plugins are listed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Final, Literal

from sdkpack.plugin import AssetMarker

__all__ = [
    "CenterCropParams",
    "Convention",
    "ConvertColourParams",
    "CropQuadParams",
    "DbBoxesParams",
    "DecodeParams",
    "DrawParams",
    "FitLinesParams",
    "LetterboxParams",
    "LimitSideParams",
    "NmsParams",
    "PadToAspectParams",
    "ResizeParams",
    "RotateParams",
    "ToTensorParams",
]

Convention = Literal[
    "cv2.area", "cv2.cubic", "cv2.lanczos4", "cv2.linear", "cv2.linear_exact", "cv2.nearest", "cv2.nearest_exact",
    "pil.bicubic", "pil.bilinear", "pil.box", "pil.hamming", "pil.lanczos", "pil.nearest",
]  # fmt: skip
"""Library and filter, in the library's own words."""

# Above this a single image would fill the memory of most machines; also what OpenCV's remapping can address.
_MAX_SIDE_PX: Final = 32_767


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _side(name: str, value: int, *, least: int = 1) -> None:
    _require(least <= value <= _MAX_SIDE_PX, f"{name} must be between {least} and {_MAX_SIDE_PX}, got {value}")


def _byte(name: str, value: int) -> None:
    _require(0 <= value <= 255, f"{name} must be between 0 and 255, got {value}")


def _share(name: str, value: float) -> None:
    _require(0.0 <= value <= 1.0, f"{name} must be between 0 and 1, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeParams:
    apply_exif: bool = True
    """Turn and mirror the pixels as the file's EXIF orientation says."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB colour that shows through transparent pixels."""
    frames: Literal["refuse", "first"] = "refuse"
    """What to do with an animated image or one with several pages."""
    max_pixels: int = 64_000_000
    """Larger images are refused before a pixel is decoded."""

    def __post_init__(self) -> None:
        for value in self.background:
            _byte("background", value)
        _require(
            1 <= self.max_pixels <= 178_956_970, f"max_pixels must be between 1 and 178956970, got {self.max_pixels}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertColourParams:
    to: Literal["bgr", "pil.grey", "cv2.grey", "cv2.hsv", "cv2.lab", "cv2.ycrcb"]
    """`pil.grey` and `cv2.grey` use the weights of ITU-R BT.601 and round differently; both are repeated over the three
    channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeParams:
    width_px: int = 0
    """0: from the aspect."""
    height_px: int = 0
    """0: from the aspect."""
    short_px: int = 0
    """Length of the shorter side, the other from the aspect; instead of width and height."""
    rounding: Literal["floor", "round", "ceil"] = "floor"
    """Of the side that follows from the aspect."""
    convention: Convention = "pil.bilinear"

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px", "short_px"):
            _side(name, getattr(self, name), least=0)
        given = bool(self.short_px), bool(self.width_px or self.height_px)
        _require(given[0] != given[1], "set either short_px, or width_px and height_px, or one of those two")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSideParams:
    side: Literal["long", "short"]
    """`long`: a longer side shrinks to the limit; `short`: a shorter side grows to it."""
    limit_px: int
    multiple_of: int = 1
    """Both sides are rounded to a multiple of this, at least one."""
    always: bool = True
    """Round to the multiple even where the limit is kept already."""
    convention: Convention = "cv2.linear"

    def __post_init__(self) -> None:
        _side("limit_px", self.limit_px)
        _require(1 <= self.multiple_of <= 1024, f"multiple_of must be between 1 and 1024, got {self.multiple_of}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterboxParams:
    width_px: int
    height_px: int
    value: int = 114
    """Grey value of the border."""
    centre: bool = True
    """The image in the middle, else at the top left."""
    convention: Convention = "cv2.linear"

    def __post_init__(self) -> None:
        _side("width_px", self.width_px)
        _side("height_px", self.height_px)
        _byte("value", self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadToAspectParams:
    max_aspect: float = 8.0
    """Images wider than this many heights are padded above and below."""
    min_height_px: int = 30
    """So are images not higher than this."""
    value: int = 0
    """Grey value of the border."""

    def __post_init__(self) -> None:
        _require(math.isfinite(self.max_aspect) and self.max_aspect >= 1, "max_aspect must be at least 1")
        _side("min_height_px", self.min_height_px)
        _byte("value", self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CenterCropParams:
    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        _side("width_px", self.width_px)
        _side("height_px", self.height_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLinesParams:
    height_px: int = 48
    group: int = 6
    """Lines of similar aspect that get one padded width."""
    min_width_px: int = 320
    """Least padded width."""
    max_width_px: int = 4096
    """Longer lines are squeezed to this width."""
    convention: Convention = "cv2.linear"

    def __post_init__(self) -> None:
        _side("height_px", self.height_px)
        _side("min_width_px", self.min_width_px)
        _side("max_width_px", self.max_width_px)
        _require(1 <= self.group <= 4096, f"group must be between 1 and 4096, got {self.group}")
        _require(
            self.min_width_px <= self.max_width_px,
            f"min_width_px {self.min_width_px} is above max_width_px {self.max_width_px}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToTensorParams:
    scale: float | str = "1/255"
    """What every byte is multiplied with; a fraction may be written as text."""
    mean: float | tuple[float, ...] = 0.0
    """Taken off after scaling; one number, or one for each channel in the tensor's order."""
    std: float | tuple[float, ...] = 1.0
    """Divided by after that."""
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    """Order of the tensor's channels; `grey`: one channel, as Pillow's mode L."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        _require(math.isfinite(self.factor), f"scale must be finite, got {self.scale}")
        count = 1 if self.channels == "grey" else 3
        for name in ("mean", "std"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            _require(len(values) in (1, count), f"{name} must be one number or {count}, got {len(values)}")
            _require(all(math.isfinite(number) for number in values), f"{name} must be finite")
            _require(name == "mean" or all(number != 0 for number in values), "std must not be 0")

    @property
    def factor(self) -> float:
        """`scale` as a number."""
        if not isinstance(self.scale, str):
            return self.scale
        try:
            return float(Fraction(self.scale.replace(" ", "")))
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise ValueError(f"scale must be a number or a fraction such as '1/255', got {self.scale!r}") from error

    def per_channel(self, name: Literal["mean", "std"]) -> tuple[float, ...]:
        value = self.mean if name == "mean" else self.std
        count = 1 if self.channels == "grey" else 3
        values = value if isinstance(value, tuple) else (value,)
        return values * count if len(values) == 1 else values


@dataclass(frozen=True, slots=True, kw_only=True)
class CropQuadParams:
    upright_from: float = 0.0
    """Turn a crop that is at least this many times higher than wide counter-clockwise; 0: never."""

    def __post_init__(self) -> None:
        _require(math.isfinite(self.upright_from) and self.upright_from >= 0, "upright_from must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateParams:
    degrees: Literal[90, 180, 270] = 180
    """Counter-clockwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DbBoxesParams:
    threshold: float = 0.3
    """A pixel of the map above this is text."""
    box_threshold: float = 0.5
    """Least mean probability inside a box."""
    unclip_ratio: float = 1.6
    """Enlargement of a region, in units of its area / perimeter."""
    dilate: bool = True
    """Join text pixels with those right of and below them."""
    max_candidates: int = 1000
    """Regions looked at; a noisy map has tens of thousands."""

    def __post_init__(self) -> None:
        _share("threshold", self.threshold)
        _share("box_threshold", self.box_threshold)
        _require(0 <= self.unclip_ratio <= 10, f"unclip_ratio must be between 0 and 10, got {self.unclip_ratio}")
        _require(1 <= self.max_candidates <= 100_000, "max_candidates must be between 1 and 100000")


@dataclass(frozen=True, slots=True, kw_only=True)
class NmsParams:
    score_threshold: float = 0.5
    """Boxes with a score of this or less are dropped first."""
    iou_threshold: float = 0.5
    """A box that overlaps a better one by more than this is dropped."""
    max_boxes: int = 300
    """Boxes kept, the best first."""
    first_class: int = 0
    """Columns of the scores before this are background."""
    coordinates: Literal["unit", "pixels"] = "pixels"
    """Whether boxes are shares of the network's input or its pixels."""
    box_format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    """Corners; top left and size; or centre and size."""

    def __post_init__(self) -> None:
        _share("score_threshold", self.score_threshold)
        _share("iou_threshold", self.iou_threshold)
        _require(1 <= self.max_boxes <= 100_000, f"max_boxes must be between 1 and 100000, got {self.max_boxes}")
        _require(0 <= self.first_class <= 1000, f"first_class must be between 0 and 1000, got {self.first_class}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawParams:
    colour: tuple[int, int, int] = (220, 30, 30)
    """RGB."""
    line_px: int = 2
    font_px: int = 14
    font: Annotated[bytes, AssetMarker(content="bytes", media_type="font/ttf")] = b""
    """A TrueType or OpenType file; empty: Pillow's own font, Latin letters only."""

    def __post_init__(self) -> None:
        for value in self.colour:
            _byte("colour", value)
        _require(1 <= self.line_px <= 100, f"line_px must be between 1 and 100, got {self.line_px}")
        _require(4 <= self.font_px <= 500, f"font_px must be between 4 and 500, got {self.font_px}")
