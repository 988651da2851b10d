"""How far two arrays are apart, by measures that mean the same whatever the scale of the values.

Absolute error misleads: it grows with the output's scale. The normalised error is max |a - b| / max |reference|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLERANCES", "ZERO_SCALE", "Difference", "compare", "tolerance_for"]

TOLERANCES: Final[Mapping[str, float]] = {
    # Two correct float32 kernels differ by reordered sums: 1e-6 to 1e-5 over a few hundred layers.
    "float32": 1e-4,
    "float64": 1e-6,
    # 11 bits of mantissa: 2^-11 = 4.9e-4 a step, accumulated.
    "float16": 2e-2,
    # 8 bits of mantissa.
    "bfloat16": 1e-1,
    "int8": 1.5e-1,
}
"""Normalised error that a change of kernels alone may make, by precision."""


def tolerance_for(precision: str) -> float:
    """The tolerance of `precision`; an unknown one is held to that of int8, the loosest that means anything."""
    return TOLERANCES.get(precision, TOLERANCES["int8"])


ZERO_SCALE: Final = 1e-3
"""What an all-zero reference counts as, which has no scale of its own.

Terms around 1 that cancel leave noise of a few float32 steps, 1e-7: with this scale that is an error of 1e-4, the
tolerance of float32, and anything greater fails. One step of an integer is an error of 1000.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The outcome of a comparison."""

    normalized_error: float
    """max |a - b| / max |reference|; infinite where shapes, element types, text, or the places of NaN or infinity
    differ."""
    snr_db: float
    """10 log10(sum reference^2 / sum (a - b)^2); infinite where both are equal."""
    cosine: float
    max_abs: float
    reason: str = ""
    """Why the error is infinite, or that the reference is all zero."""

    def within(self, tolerance: float) -> bool:
        return self.normalized_error <= tolerance


def compare(candidate: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Compares element by element; integers, booleans and strings by the same rule, strings as equal or not.

    Complex numbers count as pairs of real ones. Memory: some float64 arrays of the size of the inputs.
    """
    import numpy as np

    if candidate.shape != reference.shape:
        return _unequal(f"shape {list(candidate.shape)} against {list(reference.shape)}")
    if candidate.dtype.kind in _TEXT and reference.dtype.kind in _TEXT:
        # How wide an array of text is says nothing of its text.
        return _SAME if bool(np.array_equal(candidate, reference)) else _unequal("text differs")
    if candidate.dtype != reference.dtype:
        return _unequal(f"element type {candidate.dtype} against {reference.dtype}")
    if np.array_equal(candidate, reference, equal_nan=reference.dtype.kind in "fc"):
        return _SAME
    if reference.dtype.kind in "iu":
        return _measure(_distance(candidate, reference), _real(candidate), _real(reference))
    a, b = _real(candidate), _real(reference)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return _unequal("NaN or infinity stands at other places")
    with np.errstate(over="ignore"):
        distance = np.abs(a[finite] - b[finite])
    return _measure(distance, a[finite], b[finite])


_TEXT: Final = "OUST"
"""NumPy's kinds of arrays of text."""
_SAME: Final = Difference(normalized_error=0.0, snr_db=math.inf, cosine=1.0, max_abs=0.0)


def _real(array: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    with np.errstate(invalid="ignore"):  # widening a signalling NaN warns
        if array.dtype.kind == "c":
            return np.stack([array.real, array.imag]).astype(np.float64).ravel()
        return np.asarray(array, dtype=np.float64).ravel()


def _distance(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """|a - b| of integers: in float64, 2^60 and 2^60 + 1 would be equal."""
    import numpy as np

    # The difference of two int64 fits into uint64, and arithmetic modulo 2^64 gives it.
    wide = np.uint64 if a.dtype.kind == "u" else np.int64
    greater, smaller = np.maximum(a, b).astype(wide), np.minimum(a, b).astype(wide)
    exact: NDArray[Any] = greater.view(np.uint64).ravel() - smaller.view(np.uint64).ravel()
    return exact.astype(np.float64)


def _measure(distance: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> Difference:
    """The measures for `distance` = |a - b|, all finite or overflown to infinity."""
    import numpy as np

    if not distance.size or not distance.any():
        return _SAME
    max_abs, scale = float(distance.max()), float(np.abs(b).max())
    # Sums of squares of values scaled to 1 neither overflow nor vanish.
    unit_a = float(np.abs(a).max()) or 1.0
    unit_b = scale or 1.0
    if not math.isfinite(max_abs):
        return _unequal("the difference is above the range of float64")
    noise, signal = float(np.square(distance / max_abs).sum()), float(np.square(b / unit_b).sum())
    size = float(np.square(a / unit_a).sum())
    ratio_db = 20 * (math.log10(unit_b) - math.log10(max_abs))
    norms = math.sqrt(size) * math.sqrt(signal)
    with np.errstate(over="ignore"):
        error = float(np.float64(max_abs) / (scale or ZERO_SCALE))
    return Difference(
        normalized_error=error,
        snr_db=10 * (math.log10(signal) - math.log10(noise)) + ratio_db if scale else -math.inf,
        cosine=float((a / unit_a) @ (b / unit_b)) / norms if norms else 0.0,
        max_abs=max_abs,
        reason="" if scale else "the reference is all zero",
    )


def _unequal(reason: str) -> Difference:
    return Difference(normalized_error=math.inf, snr_db=-math.inf, cosine=0.0, max_abs=math.inf, reason=reason)
