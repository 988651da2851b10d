"""Inputs made from tensor specs, the same on every machine and NumPy, for golden runs without real data."""

from __future__ import annotations

import hashlib
import math
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
_INTEGERS: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def make_samples(
    specs: Sequence[TensorSpec],
    *,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    other_dim: int = 16,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, NDArray[Any]]:
    """One array for each spec.

    Floats are uniform in [-1, 1), 8-bit integers use their whole range, wider ones 0 to 7, booleans are mixed,
    strings are "sample". The numbers come from SHAKE-256 of seed and name: NumPy promises no stable stream.

    Args:
        specs: what a model takes.
        seed: another seed, other numbers.
        dims: sizes by symbol, or by place as in `image.2`.
        other_dim: for what `dims` does not say; the first dimension is then 1, mostly the batch.
        ranges: least and greatest number by input, in place of the above; for integers, both are used.

    Raises:
        ModelError: an element type cannot be made, or the array would be too large.
    """
    made = {}
    for spec in specs:
        shape = sample_shape(spec, dims or {}, other_dim)
        limits = (ranges or {}).get(spec.name)
        made[spec.name] = _sample(spec, shape, seed) if limits is None else _within(spec, shape, seed, limits)
    return made


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


def _count(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if count > MAX_SAMPLE_ELEMENTS:
        raise ModelError(f"a sample for {spec} would have {count} elements, expected at most {MAX_SAMPLE_ELEMENTS}")
    return count


def _within(spec: TensorSpec, shape: tuple[int, ...], seed: int, limits: Sequence[float]) -> NDArray[Any]:
    import numpy as np

    least, most = limits
    kind = np.dtype(spec.dtype) if spec.dtype in (*_FLOATS, *_INTEGERS) else None
    if kind is None:
        raise ModelError(f"a range says nothing of {spec}", hint="give real inputs as samples in the recipe")
    # 24 random bits are exact in float32.
    unit = (_random(spec.name, seed, _count(spec, shape), "<u4") >> 8).astype("float64") / (1 << 24)
    if kind.kind == "f":
        return (least + unit * (most - least)).astype(kind).reshape(shape)
    bounds = np.iinfo(kind)
    if least < bounds.min or most > bounds.max or math.floor(most) < math.ceil(least):
        raise ModelError(f"the range {list(limits)} holds no numbers of {spec}")
    low, high = math.ceil(least), math.floor(most)
    return (low + np.floor(unit * (high - low + 1)).astype("int64")).astype(kind).reshape(shape)


def _sample(spec: TensorSpec, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    import numpy as np

    count = _count(spec, shape)
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
    if spec.dtype in _INTEGERS:
        return (_random(spec.name, seed, count, "u1") % _SMALL_INTEGERS).astype(spec.dtype).reshape(shape)
    raise ModelError(f"no sample can be made for {spec}", hint="give real inputs as samples in the recipe")


def _random(name: str, seed: int, count: int, dtype: str) -> NDArray[Any]:
    import numpy as np

    kind: np.dtype[Any] = np.dtype(dtype)
    stream = hashlib.shake_256(f"sdkpack sample {seed} {name}".encode()).digest(count * kind.itemsize)
    return np.frombuffer(stream, dtype=kind).copy()
