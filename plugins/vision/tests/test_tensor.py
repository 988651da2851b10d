"""Pixels to tensors, against the arithmetic that training code writes down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdkpack_vision.operators.pixels import ToTensor
from sdkpack_vision.params import ToTensorParams

from sdkpack.errors import InputError

IMAGE = np.random.default_rng(2).integers(0, 256, (12, 17, 3), np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_imagenet_normalisation_equals_float32_arithmetic() -> None:
    ours = ToTensor(ToTensorParams(mean=MEAN, std=STD)).run(IMAGE)
    theirs = (IMAGE.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    # Ours is rounded once, theirs three times: the result near 0 carries the rounding of values near 0.5.
    assert ours.dtype == np.float32
    assert np.abs(ours[0] - theirs.transpose(2, 0, 1)).max() <= 6e-7


def test_the_value_is_the_double_precision_result_rounded_once() -> None:
    ours = ToTensor(ToTensorParams(scale=1.0, mean=127.0, std=128.0)).run(IMAGE)
    assert np.array_equal(ours[0].transpose(1, 2, 0), ((IMAGE.astype(np.float64) - 127) / 128).astype(np.float32))


def test_channels_may_be_swapped_and_means_follow_the_tensor() -> None:
    ours = ToTensor(ToTensorParams(scale=1.0, mean=(1.0, 2.0, 3.0), channels="bgr")).run(IMAGE)
    assert np.array_equal(ours[0, 0], IMAGE[:, :, 2].astype(np.float32) - 1)
    assert np.array_equal(ours[0, 2], IMAGE[:, :, 0].astype(np.float32) - 3)


def test_layouts_hold_the_same_values() -> None:
    first = ToTensor(ToTensorParams(mean=MEAN, std=STD)).run(IMAGE)
    last = ToTensor(ToTensorParams(mean=MEAN, std=STD, layout="NHWC")).run(IMAGE)
    assert np.array_equal(first.transpose(0, 2, 3, 1), last)


def test_grey_has_one_channel() -> None:
    assert ToTensor(ToTensorParams(channels="grey", mean=0.5)).run(IMAGE).shape == (1, 1, 12, 17)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12))
def test_padding_is_zero_and_leaves_the_rest(height: int, width: int, more: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    result = ToTensor(ToTensorParams(mean=0.5, std=0.5)).run(image, width + more)
    assert result.shape == (1, 3, height, width + more)
    assert (result[..., :width] == 1).all()
    assert (result[..., width:] == 0).all()


def test_a_width_below_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be padded to 16"):
        ToTensor(ToTensorParams()).run(IMAGE, 16)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"std": 0.0}, "std must not be 0"),
        ({"mean": (0.1, 0.2)}, "mean must be one number or 3, got 2"),
        ({"scale": "1/0"}, "fraction"),
        ({"scale": "abc"}, "fraction"),
        ({"scale": float("nan")}, "finite"),
        ({"channels": "grey", "mean": (1.0, 2.0, 3.0)}, "one number or 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ToTensorParams(**values)  # type: ignore[arg-type]


def test_the_input_is_not_changed() -> None:
    before = IMAGE.copy()
    ToTensor(ToTensorParams(channels="bgr")).run(IMAGE)
    assert np.array_equal(IMAGE, before)
