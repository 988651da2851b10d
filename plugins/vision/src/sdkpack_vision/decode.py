"""Decodes PNG, JPEG, BMP, WebP, TIFF and GIF bytes to RGB pixels.

Files come from strangers: the format list is closed (Pillow has readers for formats that start other programs), the
size is checked on the header before a pixel is decoded, and whatever Pillow raises on a broken file becomes one
typed error.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sdkpack.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_PIXELS", "decode_image"]

FORMATS: Final = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""Pillow's names. EPS is left out on purpose: its reader runs Ghostscript."""

MAX_PIXELS: Final = 178_956_970
"""The most that `max_pixels` may allow: Pillow itself refuses larger images (twice its bomb limit)."""

_BROKEN: Final = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError, NotImplementedError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise on malformed data (measured by flipping bytes of valid files)."""

# The modes whose samples hold more than 8 bits in a defined range.
_SIXTEEN_BIT: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_NO_RANGE: Final = frozenset({"I", "F"})


def decode_image(
    data: bytes,
    *,
    apply_exif: bool = True,
    background: tuple[int, int, int] = (255, 255, 255),
    frames: str = "refuse",
    max_pixels: int = 64_000_000,
) -> NDArray[np.uint8]:
    """Decodes one image to uint8 HWC, RGB.

    16-bit samples keep their upper 8 bits, as libpng's strip-16 does. Grey is repeated over the three channels,
    palettes are looked up, CMYK and YCbCr are converted without a colour profile, transparency is blended onto
    `background`.

    Args:
        data: the file's bytes.
        apply_exif: turn and mirror the pixels as the EXIF orientation says (EXIF 2.32, tag 0x0112).
        background: RGB colour that shows through transparent pixels.
        frames: `refuse` an image with several frames or pages, or decode the `first`.
        max_pixels: refuse larger images before decoding (a 10 kB PNG can hold 2 billion pixels).

    Raises:
        InputError: empty, of another format, truncated, damaged, too large, with several frames, or with samples
            of no defined range (32-bit integers, floats).
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise InputError("the image is empty: got 0 bytes", hint="pass the bytes of an image file")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(
            f"not an image that can be decoded: expected one of {', '.join(FORMATS)}, got {len(data)} bytes "
            f"starting with {data[:8].hex(' ')}",
            hint="convert the image to PNG or JPEG first",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"the image is too large: {str(error).rstrip('.').lower()}", hint=_SMALLER) from None
    except _BROKEN as error:
        raise _damaged(len(data), error) from None
    with image:
        _check_size(image.size, max_pixels)
        _check_frames(image, frames)
        return _pixels(image, len(data), apply_exif=apply_exif, background=background)


_SMALLER: Final = "scale the image down, or raise max_pixels of image.decode"


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"the image has no pixels: got {width} x {height}", hint="export the image again")
    if width * height > max_pixels:
        raise InputError(
            f"the image is too large: expected at most {max_pixels} pixels, got {width} x {height} = {width * height}",
            hint=_SMALLER,
        )


def _check_frames(image: Any, frames: str) -> None:
    # Phones write JPEG with further pictures behind the first (MPO: previews, depth maps): still one photograph.
    if frames == "first" or image.format == "MPO":
        return
    try:
        count = int(getattr(image, "n_frames", 1))
    except _BROKEN as error:
        raise _damaged(0, error) from None
    if count > 1:
        raise InputError(
            f"the image is animated or has pages: expected one frame, got {count} in a {image.format} file",
            hint="pass one frame, or set frames = 'first' of image.decode",
        )


def _damaged(size: int, error: Exception) -> InputError:
    detail = str(error).strip().rstrip(".") or type(error).__name__
    size_text = f" ({size} bytes)" if size else ""
    return InputError(
        f"the image is truncated or damaged{size_text}: {detail}", hint="check that the file was transferred whole"
    )


def _pixels(image: Any, size: int, *, apply_exif: bool, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        image.load()
        orientation = _orientation(image) if apply_exif else 1
        rgb = _to_rgb(image, background)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"the image is too large: {str(error).rstrip('.').lower()}", hint=_SMALLER) from None
    except _BROKEN as error:
        raise _damaged(size, error) from None
    return _upright(rgb, orientation)


def _orientation(image: Any) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except _BROKEN:
        return 1  # a damaged EXIF block says nothing about the pixels
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Any, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    if image.mode in _NO_RANGE:
        raise InputError(
            f"the image has samples of no defined range: expected 8 or 16 bits, got mode {image.mode!r} (32 bits)",
            hint="scale the values to 8 or 16 bits first",
        )
    if image.mode in _SIXTEEN_BIT:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, background)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(canvas)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes the EXIF orientation: the value says where the stored row 0 and column 0 belong."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
