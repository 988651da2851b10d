"""Resize and Upsample: every one is a matrix along each axis, and some have layers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.sampling import sampling
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES"]


def resize(scope: NodeScope) -> Blob:
    """Deconvolution for whole factors of nearest, Interp for linear with align_corners, else a matrix for each axis."""
    value, shape, result = scope.bottom(0), scope.shape(0), scope.result()
    if shape == result and scope.attribute("coordinate_transformation_mode") != "tf_crop_and_resize":
        return value
    if (
        scope.attribute("mode", "nearest") == "linear" and len(shape) == 4 and shape[:2] == result[:2]
        and scope.attribute("coordinate_transformation_mode", "half_pixel") == "align_corners"
        and min(*shape[2:], *result[2:]) > 1 and not scope.attribute("antialias", 0) and scope.draft.allows("Interp")
    ):  # fmt: skip
        fields = {"height": result[2], "width": result[3]}
        return scope.add("Interp", [value], result, "interp", interp_param=fields)
    changed = [axis for axis in range(len(shape)) if shape[axis] != result[axis]] or [0]
    weights = {axis: _weights(scope, axis) for axis in changed}
    if len(shape) == 4 and set(changed) <= {2, 3}:
        repeated = _repeat(scope, value, weights)
        if repeated is not None:
            return repeated
    for axis in changed:
        value = scope.matrix(value, axis, weights[axis])
    return value


def _repeat(scope: NodeScope, value: Blob, weights: dict[int, NDArray[Any]]) -> Blob | None:
    """Each value `factor` times in both directions, where that is what the matrices do."""
    import numpy as np

    result = scope.result()
    factors = [result[axis] // value.shape[axis] for axis in (2, 3)]
    for axis, factor in zip((2, 3), factors, strict=True):
        wanted = np.repeat(np.eye(value.shape[axis]), factor, axis=0)
        if axis in weights and not np.array_equal(weights[axis], wanted):
            return None
    channels = value.shape[1]
    fields: dict[str, Any] = {"num_output": channels, "bias_term": False, "group": channels}
    if factors[0] == factors[1]:
        fields |= {"kernel_size": [factors[0]], "stride": [factors[0]]}
    else:
        fields |= {"kernel_h": factors[0], "kernel_w": factors[1], "stride_h": factors[0], "stride_w": factors[1]}
    return scope.add("Deconvolution", [value], result, "repeat", weights=[np.ones((channels, 1, *factors))],
                     convolution_param=fields)  # fmt: skip


def _weights(scope: NodeScope, axis: int) -> NDArray[Any]:
    """What each place of the result takes of each place of the axis."""
    size, wanted = scope.shape(0)[axis], scope.result()[axis]
    scope.check_matrix(size, wanted)
    factors = _factors(scope)
    factor = wanted / size if factors is None else factors[axis]
    mode = str(scope.attribute("mode", "nearest"))
    if factor <= 0 or int(size * factor + 1e-4) != wanted:
        raise NodeError("the size of its result is another one than its scale says", got=str(wanted))
    if scope.node.op == "Upsample" or scope.opset < 11:
        # Opsets before 11: the place x of the result shows x / scale, rounded down where nearest.
        return sampling(size, wanted, factor, mode=mode.replace("bilinear", "linear"), transformation="asymmetric",
                        nearest="floor")  # fmt: skip
    if scope.attribute("antialias", 0) and factor < 1:
        raise NodeError("smoothing before it makes smaller has no layer", got="antialias=1")
    if scope.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NodeError("sizes that keep the aspect ratio are not fixed", hint="give the sizes themselves")
    return sampling(
        size, wanted, factor, mode=mode,
        transformation=str(scope.attribute("coordinate_transformation_mode", "half_pixel")),
        nearest=str(scope.attribute("nearest_mode", "round_prefer_floor")),
        cubic=float(scope.attribute("cubic_coeff_a", -0.75)), exclude=bool(scope.attribute("exclude_outside", 0)),
    )  # fmt: skip


def _factors(scope: NodeScope) -> list[float] | None:
    """Factors for each axis where the node gives factors; sizes leave them to be worked out."""
    number = 2 if scope.node.op == "Resize" and scope.opset >= 11 else 1
    if "scales" in scope.node.attributes:
        return [float(part) for part in scope.node.attributes["scales"]]
    if not scope.has(number):
        return None
    values = scope.constant(number, "scales").ravel()
    if not len(values):
        return None
    axes = scope.attribute("axes") or range(len(scope.shape(0)))
    found = [1.0] * len(scope.shape(0))
    for axis, factor in zip(axes, values, strict=True):
        found[axis] = float(factor)
    return found


RULES: Final[NodeRules] = {"Resize": resize, "Upsample": resize}
