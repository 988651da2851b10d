"""Conv, ConvTranspose, Gemm and MatMul: operators whose work is a matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import Shape
from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.operators.arithmetic import plus, total
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES", "Geometry", "geometry", "pad_with_zeros"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Settings along each spatial axis."""

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    begins: list[int]
    ends: list[int]

    @property
    def reach(self) -> list[int]:
        return [dilation * (size - 1) + 1 for size, dilation in zip(self.kernel, self.dilation, strict=True)]


def geometry(scope: NodeScope, kernel: Sequence[int], sizes: Shape) -> Geometry:
    """Of Conv and poolings, with auto_pad worked out."""
    axes = len(sizes)
    stride = list(scope.attribute("strides") or [1] * axes)
    dilation = list(scope.attribute("dilations") or [1] * axes)
    pads = list(scope.attribute("pads") or [0] * 2 * axes)
    auto = scope.attribute("auto_pad", "NOTSET") or "NOTSET"
    if any(len(part) != axes for part in (kernel, stride, dilation)) or len(pads) != 2 * axes:
        raise NodeError("its settings have another number of axes", got=f"{list(kernel)}, {stride}, {pads}")
    found = Geometry(kernel=list(kernel), stride=stride, dilation=dilation, begins=pads[:axes], ends=pads[axes:])
    if auto.startswith("SAME"):
        totals = [max(0, (-(-size // s) - 1) * s + reach - size)
                  for size, s, reach in zip(sizes, stride, found.reach, strict=True)]  # fmt: skip
        less, more = [part // 2 for part in totals], [part - part // 2 for part in totals]
        begins, ends = (less, more) if auto == "SAME_UPPER" else (more, less)
        return Geometry(kernel=list(kernel), stride=stride, dilation=dilation, begins=begins, ends=ends)
    if auto == "VALID":
        return Geometry(kernel=list(kernel), stride=stride, dilation=dilation, begins=[0] * axes, ends=[0] * axes)
    return found


def _settings(outputs: int, group: int, bias: bool, **lists: list[int]) -> dict[str, Any]:
    fields: dict[str, Any] = {"num_output": outputs}
    if not bias:
        fields["bias_term"] = False
    defaults = {"pad": 0, "kernel_size": None, "stride": 1, "dilation": 1}
    for name, values in lists.items():
        if any(value != defaults[name] for value in values):
            # Two axes with a pair of fields: what the oldest readers take.
            if len(values) == 2 and values[0] != values[1] and name != "dilation":
                short = name.removesuffix("_size")
                fields |= {f"{short}_h": values[0], f"{short}_w": values[1]}
            else:
                fields[name] = values[:1] if len(set(values)) == 1 else values
    if group != 1:
        fields["group"] = group
    return fields


def conv(scope: NodeScope) -> Blob:
    """Convolution; where the padding differs at begin and end, the kernel is widened with zeros."""
    value, shape = scope.bottom(0), scope.shape(0, 3, 4, 5)
    weights = scope.constant(1, "weights")
    bias = scope.constant(2, "biases") if scope.has(2) else None
    return convolve(scope, value, weights, bias, geometry(scope, weights.shape[2:], shape[2:]),
                    int(scope.attribute("group", 1)))  # fmt: skip


def convolve(
    scope: NodeScope, value: Blob, weights: NDArray[Any], bias: NDArray[Any] | None, facts: Geometry, group: int
) -> Blob:
    """A layer Convolution with symmetric padding that gives what the geometry says."""
    import numpy as np

    if min(*facts.begins, *facts.ends) < 0:
        raise NodeError("negative padding has no layer", got=str([*facts.begins, *facts.ends]),
                        hint="slice the input before the node")  # fmt: skip
    pads, widen = [], [(0, 0), (0, 0)]
    for begin, end, dilation in zip(facts.begins, facts.ends, facts.dilation, strict=True):
        # Zeros before the kernel move it against its padding; zeros behind let it end earlier.
        front, back = max(0, -(-(end - begin) // dilation)), max(0, (begin - end) // dilation)
        pads.append(begin + front * dilation)
        widen.append((front, back))
    if any(map(any, widen)):
        scope.draft.note(f"node {scope.node.label!r} pads begin and end differently: its kernel was widened with zeros "
                         f"from {list(weights.shape[2:])}")  # fmt: skip
        scope.check_matrix(*(size + sum(more) for size, more in zip(weights.shape, widen, strict=True)))
        weights = np.pad(weights, widen)
    kernel = list(weights.shape[2:])
    sizes = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, p, d, k, s in
             zip(value.shape[2:], pads, facts.dilation, kernel, facts.stride, strict=True)]  # fmt: skip
    fields = _settings(len(weights), group, bias is not None, pad=pads, kernel_size=kernel, stride=facts.stride,
                       dilation=facts.dilation)  # fmt: skip
    return scope.add("Convolution", [value], (value.shape[0], len(weights), *sizes), "conv",
                     weights=[weights] if bias is None else [weights, bias], convolution_param=fields)  # fmt: skip


def pad_with_zeros(scope: NodeScope, value: Blob, begins: Sequence[int], ends: Sequence[int]) -> Blob:
    """Zeros around the spatial axes: a depthwise Convolution that copies."""
    import numpy as np

    channels, axes = value.shape[1], len(value.shape) - 2
    facts = Geometry(kernel=[1] * axes, stride=[1] * axes, dilation=[1] * axes, begins=list(begins), ends=list(ends))
    return convolve(scope, value, np.ones((channels, 1, *facts.kernel), np.float32), None, facts, channels)


def conv_transpose(scope: NodeScope) -> Blob:
    """Deconvolution; output padding and uneven pads widen the kernel with zeros."""
    import numpy as np

    value, shape = scope.bottom(0), scope.shape(0, 3, 4, 5)
    weights = scope.constant(1, "weights")
    bias = scope.constant(2, "biases") if scope.has(2) else None
    facts = geometry(scope, weights.shape[2:], shape[2:])
    group, result = int(scope.attribute("group", 1)), scope.result()
    begins, ends = _transposed_pads(scope, facts, shape, result)
    pads, widen = [], [(0, 0), (0, 0)]
    for begin, end, dilation in zip(begins, ends, facts.dilation, strict=True):
        if (begin - end) % dilation:
            raise NodeError("its padding differs at begin and end by what is no multiple of the dilation",
                            got=f"{begin} and {end}, dilation {dilation}")  # fmt: skip
        pads.append(max(begin, end))
        widen.append((max(0, (end - begin) // dilation), max(0, (begin - end) // dilation)))
    if any(map(any, widen)):
        scope.draft.note(f"node {scope.node.label!r} cuts begin and end differently: its kernel was widened with zeros "
                         f"from {list(weights.shape[2:])}")  # fmt: skip
        scope.check_matrix(*(size + sum(more) for size, more in zip(weights.shape, widen, strict=True)))
        weights = np.pad(weights, widen)
    if min(pads) < 0:
        raise NodeError("negative padding has no layer", got=str(pads))
    outputs = weights.shape[1] * group
    fields = _settings(outputs, group, bias is not None, pad=pads, kernel_size=list(weights.shape[2:]),
                       stride=facts.stride, dilation=facts.dilation)  # fmt: skip
    return scope.add("Deconvolution", [value], result, "deconv", weights=[weights] if bias is None else [weights, bias],
                     convolution_param=fields)  # fmt: skip


def _transposed_pads(scope: NodeScope, facts: Geometry, shape: Shape, result: Shape) -> tuple[list[int], list[int]]:
    """What is cut off at begin and end so that the result has its size; less than 0 at the end: added."""
    full = [s * (size - 1) + reach for s, size, reach in zip(facts.stride, shape[2:], facts.reach, strict=True)]
    begins = list(facts.begins)
    auto = scope.attribute("auto_pad", "NOTSET") or "NOTSET"
    if scope.attribute("output_shape") or auto.startswith("SAME"):
        extra = scope.attribute("output_padding") or [0] * len(full)
        totals = [size + more - wanted for size, more, wanted in zip(full, extra, result[2:], strict=True)]
        begins = [part // 2 if auto == "SAME_UPPER" else part - part // 2 for part in totals]
    return begins, [size - begin - wanted for size, begin, wanted in zip(full, begins, result[2:], strict=True)]


def gemm(scope: NodeScope) -> Blob:
    """InnerProduct; alpha and beta go into the weights."""
    import numpy as np

    if scope.is_constant(0):
        raise NodeError("its first matrix is fixed", hint="transpose the product, so that the weights come second")
    value = scope.bottom(0)
    if scope.attribute("transA", 0):
        value = scope.permute(value, [1, 0])
    weights = scope.constant(1, "weights").astype(np.float64)
    weights = (weights if scope.attribute("transB", 0) else weights.T) * float(scope.attribute("alpha", 1))
    beta, result = float(scope.attribute("beta", 1)), scope.result()
    if not scope.has(2) or beta == 0:
        return inner(scope, value, weights)
    if scope.is_constant(2):
        bias = scope.constant(2, "biases").astype(np.float64) * beta
        if bias.ndim < 2 or bias.shape[0] == 1:
            return inner(scope, value, weights, np.broadcast_to(bias.reshape(-1), result[1:]))
        return plus(scope, inner(scope, value, weights), bias, result)
    return total(scope, inner(scope, value, weights), scope.power(scope.bottom(2), scale=beta), result)


def inner(scope: NodeScope, value: Blob, weights: NDArray[Any], bias: NDArray[Any] | None = None) -> Blob:
    """x W^T + b along the last axis; weights (N, K)."""
    rank, count = len(value.shape), len(weights)
    fields: dict[str, Any] = {"num_output": count}
    if bias is None:
        fields["bias_term"] = False
    if rank != 2:
        fields["axis"] = rank - 1
    return scope.add("InnerProduct", [value], (*value.shape[:-1], count), "fc",
                     weights=[weights] if bias is None else [weights, bias], inner_product_param=fields)  # fmt: skip


def mat_mul(scope: NodeScope) -> Blob:
    """InnerProduct along the last axis where the second matrix is fixed, along the last but one where the first is."""
    result = scope.result()
    if scope.is_constant(1) and scope.constant(1, "weights").ndim <= 2:
        weights = scope.constant(1, "weights")
        columns = weights if weights.ndim == 2 else weights[:, None]
        return scope.reshape(inner(scope, scope.bottom(0), columns.T), result)
    if scope.is_constant(0) and scope.constant(0, "weights").ndim <= 2:
        weights = scope.constant(0, "weights")
        value = scope.bottom(1)
        if len(value.shape) == 1:
            return scope.reshape(inner(scope, value, weights.reshape(-1, weights.shape[-1])), result)
        rows = weights if weights.ndim == 2 else weights[None]
        return scope.reshape(scope.matrix(value, len(value.shape) - 2, rows), result)
    if scope.is_constant(0) or scope.is_constant(1):
        raise NodeError("a fixed matrix of more than two dimensions has no layer")
    raise NodeError("the product of two computed matrices has no layer in Caffe",
                    hint="cut the model before it: models.NAME.cut")  # fmt: skip


RULES: Final[NodeRules] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": mat_mul,
}
