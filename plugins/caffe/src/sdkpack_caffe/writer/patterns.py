"""Several operators that are one layer in Caffe: found from their last node upwards, before nodes are written.

A pattern that matches takes the place of its last node. What it covers stays in the graph where something else uses
it, and goes otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.writer.detections import find_detections
from sdkpack_caffe.writer.program import Program
from sdkpack_caffe.writer.source import Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PATTERNS", "join"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finder:
    """Looks up what a value is made from."""

    program: Program
    makers: Mapping[str, Node]

    def maker(self, name: str, *ops: str) -> Node | None:
        """The node that makes a value, where it is one of `ops`."""
        node = self.makers.get(name)
        return node if node is not None and node.op in ops and not node.domain else None

    def constant(self, name: str) -> NDArray[Any] | None:
        return self.program.constant(name)

    def scalar(self, name: str) -> float | None:
        """A constant of one value."""
        found = self.constant(name)
        return float(found.ravel()[0]) if found is not None and found.size == 1 and found.dtype.kind in "fiu" else None

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.program.tensors.get(name)
        return tensor.shape or () if tensor is not None else ()

    def split(self, node: Node) -> tuple[str, float] | None:
        """Of Add or Mul: the computed input, and the constant of one value."""
        for own, other in ((0, 1), (1, 0)):
            value = self.scalar(node.inputs[other])
            if value is not None:
                return node.inputs[own], value
        return None

    def axes(self, node: Node) -> list[int] | None:
        """Axes of a reduction that keeps them."""
        if not node.attributes.get("keepdims", 1):
            return None
        given = node.attributes.get("axes")
        if given is None and len(node.inputs) > 1:
            found = self.constant(node.inputs[1])
            given = None if found is None else found.ravel().tolist()
        rank = len(self.shape(node.inputs[0]))
        return sorted(int(axis) % rank for axis in given) if given and rank else None


Pattern = Callable[[Finder, Node], "Node | None"]


def _instead(node: Node, op: str, inputs: tuple[str, ...], **attributes: Any) -> Node:
    return replace(node, op=op, inputs=inputs, attributes=attributes)


def softplus(find: Finder, node: Node) -> Node | None:
    """max(x, 0) + ln(1 + e^-|x|) is BNLL."""
    if node.op != "Add":
        return None
    for left, right in ((0, 1), (1, 0)):
        positive = find.maker(node.inputs[left], "Relu")
        log = find.maker(node.inputs[right], "Log")
        more = log and find.maker(log.inputs[0], "Add")
        parts = more and find.split(more)
        power = parts and parts[1] == 1 and find.maker(parts[0], "Exp")
        minus = power and find.maker(power.inputs[0], "Neg")
        size = minus and find.maker(minus.inputs[0], "Abs")
        if positive and size and size.inputs[0] == positive.inputs[0]:
            return _instead(node, "Softplus", (positive.inputs[0],))
    return None


def average_times(find: Finder, node: Node) -> Node | None:
    """AveragePool times a factor for each place is Pooling AVE, where these are Caffe's divisors."""
    if node.op != "Mul":
        return None
    for own, other in ((0, 1), (1, 0)):
        pool, factors = find.maker(node.inputs[own], "AveragePool"), find.constant(node.inputs[other])
        places = (1, 1, *find.shape(node.outputs[0])[2:])
        if pool and factors is not None and factors.shape == places:
            attributes = {**pool.attributes, "factors": factors}
            return replace(pool, op="caffe.AveragePool", outputs=node.outputs, attributes=attributes)
    return None


def _centred(find: Finder, node: Node | None) -> tuple[str, list[int]] | None:
    """x less its mean: x, and the axes of the mean."""
    mean = find.maker(node.inputs[1], "ReduceMean") if node and node.op == "Sub" else None
    axes = find.axes(mean) if mean else None
    return (node.inputs[0], axes) if node and mean and axes and mean.inputs[0] == node.inputs[0] else None


def _variance(find: Finder, name: str, centred: str, axes: list[int]) -> bool:
    """Whether a value is the mean of squares of another over the axes."""
    mean = find.maker(name, "ReduceMean")
    square = find.maker(mean.inputs[0], "Mul", "Pow") if mean else None
    if not mean or not square or find.axes(mean) != axes or square.inputs[0] != centred:
        return False
    return square.inputs[1] == centred if square.op == "Mul" else find.scalar(square.inputs[1]) == 2


def mean_variance(find: Finder, node: Node) -> Node | None:
    """x less its mean, divided by its deviation, is MVN (epsilon outside of the root) or BatchNorm (inside)."""
    if node.op != "Div":
        return None
    found = _centred(find, find.maker(node.inputs[0], "Sub"))
    below = find.maker(node.inputs[1], "Add", "Sqrt")
    if not found or not below or len(find.shape(found[0])) != 4:
        return None
    name, axes = found
    if below.op == "Add" and axes in ([2, 3], [1, 2, 3]):
        parts = find.split(below)
        root = find.maker(parts[0], "Sqrt") if parts else None
        if parts and root and _variance(find, root.inputs[0], node.inputs[0], axes):
            return _instead(node, "caffe.MVN", (name,), across=axes == [1, 2, 3], eps=parts[1], variance=True)
    if below.op == "Sqrt" and axes == [0, 2, 3]:
        inner = find.maker(below.inputs[0], "Add")
        parts = find.split(inner) if inner else None
        if parts and _variance(find, parts[0], node.inputs[0], axes):
            return _instead(node, "caffe.BatchNorm", (name,), eps=parts[1])
    return None


def centred(find: Finder, node: Node) -> Node | None:
    """x less its mean over planes is MVN."""
    found = _centred(find, node)
    if not found or len(find.shape(found[0])) != 4 or found[1] not in ([2, 3], [1, 2, 3]):
        return None
    return _instead(node, "caffe.MVN", (found[0],), across=found[1] == [1, 2, 3], eps=0.0, variance=False)


def normalize(find: Finder, node: Node) -> Node | None:
    """x / sqrt(sum of x^2 + eps), perhaps times a scale, is Normalize (SSD)."""
    scale = None
    unit: Node | None = node
    if node.op == "Mul":
        scale, unit = find.constant(node.inputs[1]), find.maker(node.inputs[0], "Div")
    if unit is None or unit.op != "Div" or (node.op == "Mul" and scale is None):
        return None
    name, shape = unit.inputs[0], find.shape(unit.inputs[0])
    root = find.maker(unit.inputs[1], "Sqrt")
    more = find.maker(root.inputs[0], "Add") if root else None
    parts = find.split(more) if more else None
    squares = find.maker(parts[0], "ReduceSumSquare") if parts else None
    axes = find.axes(squares) if squares else None
    if not parts or not squares or squares.inputs[0] != name or len(shape) != 4 or axes not in ([1], [1, 2, 3]):
        return None
    if scale is not None and (scale.size not in (1, shape[1]) or scale.shape not in ((), (1,), (1, scale.size, 1, 1))):
        return None
    return _instead(node, "caffe.Normalize", (name,), across=axes == [1, 2, 3], eps=parts[1], scale=scale)


def lrn_within(find: Finder, node: Node) -> Node | None:
    """x * (1 + alpha * mean of x^2 around) ^ -beta is LRN within channels."""
    power = find.maker(node.inputs[1], "Pow") if node.op == "Mul" else None
    exponent = find.scalar(power.inputs[1]) if power else None
    more = find.maker(power.inputs[0], "Add") if power else None
    parts = find.split(more) if more else None
    times = find.maker(parts[0], "Mul") if parts and parts[1] == 1 else None
    alpha = find.split(times) if times else None
    pool = find.maker(alpha[0], "AveragePool") if alpha else None
    square = find.maker(pool.inputs[0], "Mul") if pool else None
    if not pool or not square or not alpha or exponent is None or set(square.inputs) != {node.inputs[0]}:
        return None
    size = pool.attributes.get("kernel_shape", [0])[0]
    half = (size - 1) // 2
    given = [list(pool.attributes.get(name, [])) for name in ("kernel_shape", "strides", "pads")]
    if size % 2 == 0 or given not in ([[size] * 2, strides, [half] * 4] for strides in ([], [1, 1])):
        return None
    if half and not pool.attributes.get("count_include_pad", 0):
        return None
    return _instead(node, "caffe.LRN", (node.inputs[0],), size=size, alpha=alpha[1], beta=-exponent)


def last_first(find: Finder, node: Node) -> Node | None:
    """TopK of an axis turned round takes the last of equal values first, as ArgMax does."""
    import numpy as np

    turn = find.maker(node.inputs[0], "Gather") if node.op == "TopK" else None
    places = find.constant(turn.inputs[1]) if turn else None
    if not turn or places is None:
        return None
    rank = len(find.shape(turn.inputs[0]))
    axis = int(turn.attributes.get("axis", 0)) % rank
    size = find.shape(turn.inputs[0])[axis]
    if axis != int(node.attributes.get("axis", -1)) % rank or not np.array_equal(places, np.arange(size)[::-1]):
        return None
    return replace(node, op="caffe.TopK", inputs=(turn.inputs[0], *node.inputs[1:]))


def detections(find: Finder, node: Node) -> Node | None:
    """The reader's own form of DetectionOutput (SSD)."""
    return find_detections(find.program, find.makers, node)


PATTERNS: Final[tuple[Pattern, ...]] = (
    softplus, average_times, mean_variance, centred, normalize, lrn_within, last_first, detections,
)  # fmt: skip


def _tried(pattern: Pattern, find: Finder, node: Node) -> Node | None:
    """What a pattern finds; a node with wrong inputs or settings is part of none, and its rule says what is wrong."""
    try:
        return pattern(find, node)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


def join(program: Program, outputs: list[str]) -> None:
    """Puts patterns in their places and drops what nothing needs any more."""
    makers = {name: node for node in program.nodes for name in node.outputs if name}
    find = Finder(program=program, makers=makers)
    needed, kept = set(outputs), []
    for node in reversed(program.nodes):
        if not needed.intersection(node.outputs):
            continue
        found = None
        if not node.domain:
            found = next((hit for hit in (_tried(pattern, find, node) for pattern in PATTERNS) if hit), None)
        kept.append(found or node)
        needed.update(name for name in kept[-1].inputs if name)
    program.nodes[:] = kept[::-1]
    program.used = needed
