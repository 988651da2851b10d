"""Decoding: every kind of file that people have, and files that are broken."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sdkpack_vision.decode import decode_image

from sdkpack.errors import InputError

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (9, 14, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels_that_were_saved(kind: str) -> None:
    assert np.array_equal(decode_image(encoded(Image.fromarray(PIXELS), kind)), PIXELS)


def test_webp_lossless_gives_the_pixels_that_were_saved() -> None:
    assert np.array_equal(decode_image(encoded(Image.fromarray(PIXELS), "WEBP", lossless=True)), PIXELS)


def test_jpeg_equals_pillow() -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG", quality=90)
    assert np.array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode_image(data), upright)
    assert np.array_equal(decode_image(data, apply_exif=False), PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(encoded(Image.fromarray(PIXELS), "PNG", exif=exif)), PIXELS)


def test_grey_is_repeated_over_three_channels() -> None:
    result = decode_image(encoded(Image.fromarray(PIXELS[:, :, 0]), "PNG"))
    assert np.array_equal(result, np.repeat(PIXELS[:, :, :1], 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    bits = PIXELS[:, :, 0] > 127
    result = decode_image(encoded(Image.fromarray(bits), "PNG"))
    assert np.array_equal(result[:, :, 1], np.where(bits, 255, 0))


def test_sixteen_bit_grey_keeps_the_upper_byte() -> None:
    deep = RNG.integers(0, 65536, (5, 6), np.uint16)
    result = decode_image(encoded(Image.fromarray(deep), "PNG"))
    assert np.array_equal(result, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_sixteen_bit_colour_keeps_the_upper_byte() -> None:
    deep = RNG.integers(0, 65536, (4, 3, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 3, 4, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(decode_image(png), (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 10, 200)])
def test_transparency_shows_the_background(background: tuple[int, int, int]) -> None:
    alpha = RNG.integers(0, 256, (9, 14, 1), np.uint8)
    data = encoded(Image.fromarray(np.concatenate([PIXELS, alpha], axis=2), "RGBA"), "PNG")
    share = alpha.astype(np.float64) / 255
    expected = PIXELS * share + np.array(background) * (1 - share)
    # One rounding of 8-bit arithmetic: never more than 1 away, and exact where a pixel is opaque or clear.
    assert np.abs(decode_image(data, background=background) - expected).max() <= 1


def test_a_palette_with_a_transparent_entry_shows_the_background() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    result = decode_image(encoded(image, "PNG", transparency=1))
    assert result[0, 0].tolist() == [10, 20, 30]
    assert result[0, 1].tolist() == [255, 255, 255]


def test_cmyk_jpeg_equals_pillow() -> None:
    data = encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95)
    assert np.array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("array", [np.zeros((3, 3), np.int32), np.zeros((3, 3), np.float32)])
def test_samples_without_a_range_are_refused(array: Any) -> None:
    with pytest.raises(InputError, match="no defined range"):
        decode_image(encoded(Image.fromarray(array), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_animated_images_and_pages_are_refused_unless_the_first_is_asked_for(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with pytest.raises(InputError, match="expected one frame, got 3"):
        decode_image(data)
    assert decode_image(data, frames="first")[0, 0].tolist() == [255, 0, 0]


def test_a_photograph_with_a_preview_behind_it_is_one_image() -> None:
    first, second = Image.fromarray(PIXELS), Image.new("RGB", (2, 2))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert decode_image(data).shape == PIXELS.shape


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, I am a text file", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        decode_image(data)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), kind)
    with pytest.raises(InputError):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("side", [8001, 40_000, 2_000_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match="too large"):
        decode_image(png)


def test_the_limit_counts_pixels() -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG")
    assert decode_image(data, max_pixels=126).shape == (9, 14, 3)
    with pytest.raises(InputError, match="14 x 9 = 126"):
        decode_image(data, max_pixels=125)


VALID = [
    encoded(Image.fromarray(PIXELS), kind, **({"quality": 80} if kind == "JPEG" else {}))
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of strange metadata
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_a_damaged_file_gives_pixels_or_the_typed_error(valid: bytes, data: st.DataObject) -> None:
    damaged = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        try:
            result = decode_image(candidate)
        except InputError:
            continue
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3
