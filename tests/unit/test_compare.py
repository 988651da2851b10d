"""Known answers of the comparison."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sdkpack.compare import TOLERANCES, ZERO_SCALE, compare, tolerance_for


def test_known_answer() -> None:
    found = compare(np.array([1.1, 2.0]), np.array([1.0, 2.0]))
    assert found.normalized_error == pytest.approx(0.05)
    assert found.max_abs == pytest.approx(0.1)
    assert found.snr_db == pytest.approx(10 * math.log10(5 / 0.01))
    assert found.cosine == pytest.approx(5.1 / math.sqrt(5.21 * 5))
    assert found.reason == ""
    assert found.within(0.051)
    assert not found.within(0.049)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.array(1.5),
        np.array([np.nan, np.inf, -np.inf, 1.0]),
        np.zeros(4, np.float16),
        np.array(["a", "é"]),
        np.array(["a", "é"], dtype=object),
        np.array([True, False]),
        np.array([2**63 - 1, -(2**63)]),
        np.array([1 + 2j, complex(np.nan, 0)]),
    ],
    ids=str,
)
def test_equal_is_equal(array: Any) -> None:
    found = compare(array.copy(), array)
    assert (found.normalized_error, found.snr_db, found.cosine, found.max_abs) == (0.0, math.inf, 1.0, 0.0)


@pytest.mark.parametrize(
    ("candidate", "reference", "reason"),
    [
        (np.zeros((1, 2)), np.zeros((2, 1)), "shape [1, 2] against [2, 1]"),
        (np.zeros(2), np.zeros(2, np.float32), "element type float64 against float32"),
        (np.array([1.0, np.nan]), np.array([np.nan, 1.0]), "NaN or infinity stands at other places"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "NaN or infinity stands at other places"),
        (np.array([1.0, np.inf]), np.array([1.0, -np.inf]), "NaN or infinity stands at other places"),
        (np.array([np.inf]), np.array([np.nan]), "NaN or infinity stands at other places"),
        (np.array(["a"]), np.array(["b"]), "text differs"),
        (np.array([1.7e308]), np.array([-1.7e308]), "the difference is above the range of float64"),
    ],
)
def test_what_cannot_be_measured_is_infinitely_wrong(candidate: Any, reference: Any, reason: str) -> None:
    found = compare(candidate, reference)
    assert found.normalized_error == math.inf
    assert found.reason == reason
    assert not found.within(1e300)


def test_nan_at_the_same_places_leaves_the_rest_to_measure() -> None:
    found = compare(np.array([np.nan, 2.2, np.inf]), np.array([np.nan, 2.0, np.inf]))
    assert found.normalized_error == pytest.approx(0.1)


def test_noise_on_an_all_zero_reference_is_measured_against_a_stated_scale() -> None:
    zero = np.zeros(3, np.float32)
    noise = compare(np.full(3, 1e-12, np.float32), zero)
    assert noise.normalized_error == pytest.approx(1e-12 / ZERO_SCALE)
    assert noise.reason == "the reference is all zero"
    assert noise.within(tolerance_for("float32"))
    assert not compare(np.full(3, 1e-6, np.float32), zero).within(tolerance_for("float32"))
    assert not compare(np.array([1]), np.array([0])).within(tolerance_for("int8"))


def test_integers_are_compared_exactly() -> None:
    assert compare(np.array([2**60 + 1]), np.array([2**60])).max_abs == 1.0
    assert compare(np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64)).max_abs == 1.0
    assert compare(np.array([-(2**63)]), np.array([2**63 - 1])).normalized_error == pytest.approx(2.0)
    assert compare(np.array([-128], np.int8), np.array([127], np.int8)).max_abs == 255.0
    assert compare(np.array([3], np.uint8), np.array([5], np.uint8)).normalized_error == pytest.approx(0.4)


def test_the_imaginary_part_counts() -> None:
    assert compare(np.array([1 + 1j]), np.array([1 + 2j])).normalized_error == pytest.approx(0.5)


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e307])
def test_scale_does_not_matter(scale: float) -> None:
    found = compare(np.array([1.25, 2.0]) * scale, np.array([1.0, 2.0]) * scale)
    assert found.normalized_error == pytest.approx(0.125, rel=1e-6)
    assert found.snr_db == pytest.approx(10 * math.log10(5 / 0.0625), rel=1e-6)


def test_an_unknown_precision_gets_the_loosest_tolerance() -> None:
    assert tolerance_for("int4") == max(TOLERANCES[name] for name in ("float32", "float16", "bfloat16", "int8"))


def test_text_is_compared_whatever_the_width_of_its_array() -> None:
    short, wide = np.array(["a", "bc"]), np.array(["a", "bc"], dtype="<U9")
    assert compare(short, wide).normalized_error == 0
    assert compare(short.astype(object), wide).normalized_error == 0
    assert compare(np.array(["a", "bd"]), wide).reason == "text differs"
    assert "element type" in compare(np.array([1, 2]), wide).reason
