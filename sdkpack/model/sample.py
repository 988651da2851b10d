"""Inputs made from tensor specs, the same on every machine and NumPy, for golden runs without real data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sdkpack.types import TensorSpec

__all__ = ["MAX_SAMPLE_ELEMENTS", "make_samples", "sample_shape"]

MAX_SAMPLE_ELEMENTS: Final = 1 << 28
"""More is a declared shape that nobody means to run."""

_SMALL_INTEGERS: Final = 8
# Wide integers are mostly indices, lengths or token ids: small ones are valid for all of these.

_FLOATS: Final = ("float16", "float32", "float64")


def make_samples(
    specs: Sequence[TensorSpec], *, seed: int = 0, dims: Mapping[str, int] | None = None, other_dim: int = 16
) -> dict[str, NDArray[Any]]:
    """One array for each spec.

    Floats are uniform in [-1, 1), 8-bit integers use their whole range, wider ones 0 to 7, booleans are mixed,
    strings are "sample". The numbers come from SHAKE-256 of seed and name: NumPy promises no stable stream.

    Args:
        specs: what a model takes.
        seed: another seed, other numbers.
        dims: sizes by symbol, or by place as in `image.2`.
        other_dim: for what `dims` does not say; the first dimension is then 1, mostly the batch.

    Raises:
        ModelError: an element type cannot be made, or the array would be too large.
    """
    return {spec.name: _sample(spec, sample_shape(spec, dims or {}, other_dim), seed) for spec in specs}


def sample_shape(spec: TensorSpec, dims: Mapping[str, int], other_dim: int = 16) -> tuple[int, ...]:
    """A shape of sizes for `spec`, as `make_samples` fixes it."""
    shape: list[int] = []
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, int):
            shape.append(dim)
        else:
            fallback = 1 if axis == 0 else other_dim
            shape.append(dims.get(f"{spec.name}.{axis}", dims.get(dim, fallback)))
    return tuple(shape)


def _sample(spec: TensorSpec, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    import numpy as np

    count = 1
    for dim in shape:
        count *= dim
    if count > MAX_SAMPLE_ELEMENTS:
        raise ModelError(f"a sample for {spec} would have {count} elements, expected at most {MAX_SAMPLE_ELEMENTS}")
    if spec.dtype == "string":
        return np.full(shape, "sample", dtype=object)
    if spec.dtype in _FLOATS:
        # 24 random bits are exact in float32, so that no rounding mode can change the sample.
        unit = (_random(spec.name, seed, count, "<u4") >> 8).astype("float64") / (1 << 23) - 1
        return unit.reshape(shape).astype(spec.dtype)
    if spec.dtype in ("int8", "uint8"):
        return _random(spec.name, seed, count, "u1").view(spec.dtype).reshape(shape)
    if spec.dtype == "bool":
        return (_random(spec.name, seed, count, "u1") & 1).astype(bool).reshape(shape)
    if spec.dtype in ("int16", "uint16", "int32", "uint32", "int64", "uint64"):
        return (_random(spec.name, seed, count, "u1") % _SMALL_INTEGERS).astype(spec.dtype).reshape(shape)
    raise ModelError(f"no sample can be made for {spec}", hint="give real inputs as samples in the recipe")


def _random(name: str, seed: int, count: int, dtype: str) -> NDArray[Any]:
    import numpy as np

    kind: np.dtype[Any] = np.dtype(dtype)
    stream = hashlib.shake_256(f"sdkpack sample {seed} {name}".encode()).digest(count * kind.itemsize)
    return np.frombuffer(stream, dtype=kind).copy()
