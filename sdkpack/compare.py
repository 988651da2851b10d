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

__all__ = ["TOLERANCES", "Difference", "compare", "tolerance_for"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The outcome of a comparison."""

    normalized_error: float
    """max |a - b| / max |reference|; infinite where shapes, or the places of NaN or infinity, differ."""
    snr_db: float
    """10 log10(sum reference^2 / sum (a - b)^2); infinite where both are equal."""
    cosine: float
    max_abs: float
    reason: str = ""
    """Why the error is infinite."""

    def within(self, tolerance: float) -> bool:
        return self.normalized_error <= tolerance


def compare(candidate: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Compares element by element; integers, booleans and strings by the same rule, strings as equal or not."""
    import numpy as np

    if candidate.shape != reference.shape:
        return _unequal(f"shape {list(candidate.shape)} against {list(reference.shape)}")
    if candidate.dtype != reference.dtype:
        return _unequal(f"element type {candidate.dtype} against {reference.dtype}")
    if reference.dtype.kind in "OUS":
        return _SAME if bool(np.array_equal(candidate, reference)) else _unequal("text differs")
    if np.array_equal(candidate, reference, equal_nan=reference.dtype.kind in "fc"):
        return _SAME
    a, b = (np.asarray(array, dtype=np.float64).ravel() for array in (candidate, reference))
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return _unequal("NaN or infinity stands at other places")
    return _measure(a[finite], b[finite])


_SAME: Final = Difference(normalized_error=0.0, snr_db=math.inf, cosine=1.0, max_abs=0.0)


def _measure(a: NDArray[Any], b: NDArray[Any]) -> Difference:
    import numpy as np

    error = a - b
    max_abs = float(np.abs(error).max())
    scale = float(np.abs(b).max())
    noise, signal = float(error @ error), float(b @ b)
    norms = math.sqrt(float(a @ a)) * math.sqrt(signal)
    return Difference(
        normalized_error=max_abs / scale if scale else math.inf,
        snr_db=10 * math.log10(signal / noise) if signal and noise else (math.inf if not noise else -math.inf),
        cosine=float(a @ b) / norms if norms else 0.0,
        max_abs=max_abs,
        reason="" if scale else "the reference is all zero",
    )


def _unequal(reason: str) -> Difference:
    return Difference(normalized_error=math.inf, snr_db=-math.inf, cosine=0.0, max_abs=math.inf, reason=reason)
