"""Builds the ONNX graph: values in the order that Caffe computes them, each with its static shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.caffemodel import Blob
from sdkpack_caffe.prototxt import Layer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Graph", "LayerError", "LayerFunction", "Rules", "Scope", "Shape", "Value"]

Shape = tuple[int, ...]

_MAX_ELEMENTS: Final = 1 << 31
"""Of any value: a prototxt of a few bytes could otherwise ask for more memory than there is."""
_MAX_CONSTANT: Final = 1 << 27
_MAX_STAND_IN: Final = 1 << 22


class LayerError(Exception):
    """What is wrong with one layer; the converter tells of all of them together."""

    def __init__(self, message: str, *, got: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.message, self.got, self.expected = message, got, expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of the graph."""

    name: str
    shape: Shape | None
    """None: known when it is computed only, as the number of detections."""
    floats: bool = True
    """Float32; else an integer or a truth value, which only the layer that made it sees."""
    constant: Any = None
    """The array, where it is one."""


@dataclass(slots=True)
class Graph:
    """Nodes and constants so far."""

    opset: int
    open_sizes: bool = False
    """Some input sizes stay open: nothing may be fixed that ONNX can work out by itself."""
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps names of blobs free."""
        self._names.update(names)

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}.{number}"
        self._names.add(name)
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The graph as one layer's function sees it."""

    graph: Graph
    layer: Layer
    inputs: tuple[Value, ...]
    blobs: tuple[Blob, ...] = ()
    taken: set[int] = field(default_factory=set)
    problems: list[LayerError] = field(default_factory=list)
    """With the weights: the layer's results have their shapes all the same."""

    @property
    def fields(self) -> Any:
        return self.layer.fields

    def one(self) -> Value:
        """The only bottom."""
        return self.bottoms(1)[0]

    def bottoms(self, *counts: int) -> tuple[Value, ...]:
        """All bottoms, as many as one of `counts`."""
        if len(self.inputs) not in counts:
            raise LayerError("wrong number of bottoms", got=str(len(self.inputs)),
                             expected=" or ".join(map(str, counts)))  # fmt: skip
        return self.inputs

    def shape(self, value: Value, *ranks: int) -> Shape:
        """The shape of a bottom, with one of so many dimensions."""
        if value.shape is None:
            raise LayerError(f"the shape of {value.name!r} is only known when it is computed")
        if ranks and len(value.shape) not in ranks:
            raise LayerError(f"bottom {value.name!r} has the wrong number of dimensions", got=str(list(value.shape)),
                             expected=f"{' or '.join(map(str, ranks))} dimensions")  # fmt: skip
        return value.shape

    def axis(self, axis: int, rank: int, *, end: bool = False) -> int:
        """An axis counted from the front; `end` allows one past the last."""
        found = axis + rank + (1 if end else 0) if axis < 0 else axis
        if not 0 <= found < rank + (1 if end else 0):
            raise LayerError("the axis is not there", got=str(axis), expected=f"one of {rank} axes")
        return found

    def has_blob(self, number: int) -> bool:
        return number < len(self.blobs)

    def blob(self, number: int, shape: Sequence[int], what: str) -> NDArray[Any]:
        """The layer's weights number `number`, in the given shape.

        Where they are missing or have another shape, this is noted and zeros stand in for them, so that the layers
        behind are looked at too. Such a network is never written.

        Raises:
            LayerError: they are missing or have another shape, and zeros would take much memory.
        """
        import numpy as np

        wanted = tuple(shape)
        self.taken.add(number)
        if number < len(self.blobs) and self.blobs[number].fits(wanted):
            return self.blobs[number].values.reshape(wanted)
        if number < len(self.blobs):
            own = list(self.blobs[number].values.shape)
            problem = LayerError(
                f"another shape of its {what} in the caffemodel", got=str(own), expected=str([*wanted])
            )
        else:
            problem = LayerError(f"the caffemodel lacks its {what}", got=f"{len(self.blobs)} blobs",
                                 expected=f"blob {number} of shape {list(wanted)}")  # fmt: skip
        if math.prod(wanted) > _MAX_STAND_IN:
            raise problem
        self.problems.append(problem)
        return np.zeros(wanted, np.float32)

    def constant(self, values: ArrayLike, what: str, dtype: str = "float32") -> Value:
        """A tensor that is known now."""
        import numpy as np

        array = np.ascontiguousarray(np.asarray(values, dtype=dtype)).reshape(np.shape(values))
        if not array.size:
            raise LayerError(f"its {what} would be empty", got=str(list(array.shape)))
        if array.size > _MAX_CONSTANT:
            raise LayerError(f"its {what} is too large", got=f"{array.size} values", expected=f"{_MAX_CONSTANT}")
        name = self.graph.fresh(f"{self.layer.name}/{what}")
        self.graph.constants[name] = array
        return Value(name=name, shape=array.shape, floats=array.dtype.kind == "f", constant=array)

    def ints(self, values: Iterable[int], what: str) -> Value:
        """A list of int64."""
        return self.constant([int(value) for value in values], what, "int64")

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Sequence[int] | None,
        *,
        floats: bool = True,
        **attributes: Any,
    ) -> Value:
        """One node with one result of the given shape."""
        return self.emit_many(op, inputs, [shape], floats=floats, **attributes)[0]

    def emit_many(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shapes: Sequence[Sequence[int] | None],
        *,
        floats: bool = True,
        **attributes: Any,
    ) -> list[Value]:
        """One node with several results."""
        from onnx import helper

        results = [self._result(op, shape, floats) for shape in shapes]
        node = helper.make_node(
            op,
            [value.name if value else "" for value in inputs],
            [result.name for result in results],
            name=self.graph.fresh(f"{self.layer.name}/{op}"),
            **{name: value for name, value in attributes.items() if value is not None},
        )
        self.graph.nodes.append(node)
        return results

    def _result(self, op: str, shape: Sequence[int] | None, floats: bool) -> Value:
        name = self.graph.fresh(f"{self.layer.name}/{op}:0")
        if shape is None:
            return Value(name=name, shape=None, floats=floats)
        sizes = tuple(int(size) for size in shape)
        if any(size < 1 for size in sizes):
            raise LayerError("its result would be empty", got=str(list(sizes)))
        if math.prod(sizes) > _MAX_ELEMENTS:
            raise LayerError("its result is too large", got=str(list(sizes)), expected=f"{_MAX_ELEMENTS} values")
        self.graph.shapes[name] = sizes
        return Value(name=name, shape=sizes, floats=floats)

    # Operators whose form depends on the version, or that many layers use ---------------------------------------
    def reduce(self, op: str, value: Value, axes: Sequence[int], *, keep: bool = True) -> Value:
        """ReduceMean and its family: axes are an input from opset 18 on, for ReduceSum from 13 on."""
        shape = self.shape(value)
        drop = set(axes)
        left = [1 if at in drop else size for at, size in enumerate(shape) if keep or at not in drop]
        if self.graph.opset >= 18 or op == "ReduceSum":
            return self.emit(op, [value, self.ints(axes, "axes")], left, keepdims=int(keep))
        return self.emit(op, [value], left, axes=list(axes), keepdims=int(keep))

    def reshape(self, value: Value, target: Sequence[int], shape: Sequence[int]) -> Value:
        """To `target` as ONNX reads it, 0 for a size that stays and -1 for one to work out; `shape` is the result's."""
        if not target:
            return self.emit("Squeeze", [value], shape)
        return self.emit("Reshape", [value, self.ints(target, "shape")], shape)

    def scalar(self, value: float, what: str) -> Value:
        import numpy as np

        return self.constant(np.float32(value), what)

    def binary(self, op: str, left: Value, right: Value) -> Value:
        """Add, Mul, Div, Sub or Pow, with ONNX's broadcasting."""
        import numpy as np

        shape = None
        if left.shape is not None and right.shape is not None:
            shape = np.broadcast_shapes(left.shape, right.shape)
        return self.emit(op, [left, right], shape)


LayerFunction = Callable[[Scope], Sequence[Value]]
"""Emits a layer and returns a value for each top."""
Rules = Mapping[str, LayerFunction]
