"""What each place of a resized axis takes of the places of the original one, as ONNX's Resize (19) defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdkpack_caffe.writer.draft import NodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["sampling"]


def sampling(
    size: int, wanted: int, factor: float, *, mode: str = "nearest", transformation: str = "half_pixel",
    nearest: str = "round_prefer_floor", cubic: float = -0.75, exclude: bool = False,
) -> NDArray[Any]:  # fmt: skip
    """Weights (wanted, size), each row with the sum 1.

    Args:
        factor: the node's scale, or wanted / size where it gives sizes.
        transformation: ONNX's coordinate_transformation_mode.
        cubic: cubic_coeff_a.
        exclude: exclude_outside.

    Raises:
        NodeError: a mode that is not of ONNX, or that looks at more than one axis.
    """
    import numpy as np

    places = _places(np.arange(wanted, dtype=np.float64), size, wanted, factor, transformation)
    weights = np.zeros((wanted, size))
    if mode == "nearest":
        found = _rounded(places, nearest).astype(np.int64).clip(0, size - 1)
        weights[np.arange(wanted), found] = 1
        return weights
    first = np.floor(places).astype(np.int64)
    share = places - first
    if mode == "linear":
        parts = {0: 1 - share, 1: share}
    elif mode == "cubic":
        parts = {step: _cubic(abs(share - step), cubic) for step in (-1, 0, 1, 2)}
    else:
        raise NodeError("no such way to resize", got=mode)
    for step, part in parts.items():
        place = first + step
        outside = (place < 0) | (place >= size)
        kept = np.where(outside, 0.0, part) if exclude else part
        np.add.at(weights, (np.arange(wanted), place.clip(0, size - 1)), kept)
    whole: NDArray[Any] = weights / weights.sum(axis=1, keepdims=True)
    return whole


def _places(x: Any, size: int, wanted: int, factor: float, transformation: str) -> Any:
    """Where a place of the result lies on the original axis."""
    if transformation == "asymmetric":
        return x / factor
    if transformation == "align_corners":
        return x * (size - 1) / (wanted - 1) if wanted > 1 else x * 0
    half = (x + 0.5) / factor - 0.5
    if transformation == "half_pixel":
        return half
    if transformation == "pytorch_half_pixel":
        return half if wanted > 1 else x * 0
    if transformation == "half_pixel_symmetric":
        return half + size / 2 * (1 - wanted / (factor * size))
    raise NodeError("such coordinates have no layer", got=transformation, hint="slice, then resize")


def _rounded(x: Any, nearest: str) -> Any:
    import numpy as np

    ways: dict[str, Any] = {
        "round_prefer_floor": lambda v: np.ceil(v - 0.5), "round_prefer_ceil": lambda v: np.floor(v + 0.5),
        "floor": np.floor, "ceil": np.ceil,
    }  # fmt: skip
    if nearest not in ways:
        raise NodeError("no such way to round", got=nearest)
    return ways[nearest](x)


def _cubic(x: Any, a: float) -> Any:
    """Keys' kernel at a distance from 0 to 2."""
    import numpy as np

    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
