"""What must hold of the comparison whatever the values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdkpack.compare import compare

SIZES = st.integers(0, 5)
DTYPES = st.sampled_from(["float16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool", "complex64"])


@st.composite
def arrays(draw: st.DrawFn, count: int = 2) -> list[Any]:
    """Arrays of one type and shape, of any bytes."""
    dtype, size = np.dtype(draw(DTYPES)), draw(SIZES)
    raw = [draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize)) for _ in range(count)]
    return [np.frombuffer(bytes(b & 1 for b in one) if dtype.kind == "b" else one, dtype) for one in raw]


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


@given(arrays())
def test_zero_means_equal_and_nothing_warns(pair: list[Any]) -> None:
    candidate, reference = pair
    found = compare(candidate, reference)
    assert (found.max_abs == 0.0) == _same(candidate, reference)
    assert found.normalized_error >= 0
    assert not math.isnan(found.normalized_error)
    assert not math.isnan(found.snr_db)
    assert -1 - 1e-9 <= found.cosine <= 1 + 1e-9


@given(arrays(count=1))
def test_an_array_equals_itself(one: list[Any]) -> None:
    assert compare(one[0].copy(), one[0]).within(0.0)


finite = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(finite, st.floats(1e-6, 0.5), st.sampled_from([-40, -3, 0, 3, 40]))
def test_scaling_both_changes_nothing(values: list[float], share: float, power: int) -> None:
    reference = np.array([*values, 1.0])
    candidate = reference * (1 + share)
    plain = compare(candidate, reference)
    scaled = compare(candidate * 2.0**power, reference * 2.0**power)
    assert math.isclose(plain.normalized_error, scaled.normalized_error, rel_tol=1e-9)
    assert math.isclose(plain.normalized_error, share, rel_tol=1e-6)
    assert math.isclose(plain.snr_db, scaled.snr_db, rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(plain.cosine, 1.0)


@given(finite)
def test_order_does_not_matter(values: list[float]) -> None:
    reference, candidate = np.array(values), np.array(values) + 0.5
    there, back = compare(candidate, reference), compare(candidate[::-1], reference[::-1])
    assert there.normalized_error == back.normalized_error
