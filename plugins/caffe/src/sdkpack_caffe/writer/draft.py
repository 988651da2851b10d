"""The network being written: layers, blobs and weights, before they have names for good."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Blob", "Draft", "DraftLayer", "NodeError"]

_MAX_CONSTANT: Final = 1 << 22
_MAX_ELEMENTS: Final = 1 << 31
"""Caffe counts the elements of a blob in an int."""


class NodeError(Exception):
    """Why one node cannot be written; all of them are told together."""

    def __init__(
        self, message: str, *, got: str = "", expected: str = "", hint: str = "", follows: bool = False
    ) -> None:
        """Args: follows: it may be so only because a node before could not be written."""
        super().__init__(message)
        self.message, self.got, self.expected, self.hint, self.follows = message, got, expected, hint, follows


@dataclass(eq=False, slots=True)
class Blob:
    """A blob; names may still change."""

    name: str
    shape: Shape


@dataclass(eq=False, slots=True)
class DraftLayer:
    """A layer: its type, what it takes and makes, its settings by message and field, its weights."""

    type: str
    bottoms: list[Blob]
    tops: list[Blob]
    settings: dict[str, Any]
    weights: list[NDArray[Any]] = field(default_factory=list)


@dataclass(slots=True)
class Draft:
    """Layers so far, in the order in which Caffe computes them."""

    without: frozenset[str] = frozenset()
    """Types of layers that the reader of the files does not know."""
    floor_pooling: str = "round_mode"
    inputs: list[Blob] = field(default_factory=list)
    layers: list[DraftLayer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _constants: dict[tuple[Shape, bytes], Blob] = field(default_factory=dict)

    def allows(self, kind: str) -> bool:
        return kind not in self.without

    def note(self, text: str) -> None:
        """Something that the author should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def add(
        self, kind: str, bottoms: Sequence[Blob], shape: Iterable[int], *, name: str,
        weights: Sequence[NDArray[Any]] = (), **settings: Mapping[str, Any],
    ) -> Blob:  # fmt: skip
        """A layer with one top."""
        return self.add_many(kind, bottoms, [shape], name=name, weights=weights, **settings)[0]

    def add_many(
        self, kind: str, bottoms: Sequence[Blob], shapes: Sequence[Iterable[int]], *, name: str,
        weights: Sequence[NDArray[Any]] = (), **settings: Mapping[str, Any],
    ) -> list[Blob]:  # fmt: skip
        """A layer with a top for each of `shapes`.

        Raises:
            NodeError: the layer's type is ruled out, or a top is empty or too large.
        """
        import numpy as np

        if not self.allows(kind):
            raise NodeError(f"it needs a layer {kind}, which convert.with.without rules out", got=kind)
        tops = [Blob(name=name, shape=tuple(int(size) for size in shape)) for shape in shapes]
        for top in tops:
            if any(size < 1 for size in top.shape) or math.prod(top.shape) > _MAX_ELEMENTS:
                raise NodeError("Caffe has no blob of such a shape", got=str(list(top.shape)))
        kept = {message: dict(values) for message, values in settings.items() if values}
        arrays = [np.ascontiguousarray(array, np.float32).reshape(np.shape(array)) for array in weights]
        self.layers.append(DraftLayer(kind, list(bottoms), list(tops), kept, arrays))
        return tops

    def constant(self, values: Any, name: str) -> Blob:
        """A blob of fixed values: Caffe has no such layer, so it is the bias of an InnerProduct with weights of 0.

        Its bottom is the first input, made 1 everywhere and averaged down to one value, so that nothing of the input
        (no infinity) reaches it.
        """
        import numpy as np

        if np.size(values) > _MAX_CONSTANT:
            raise NodeError("a constant that no layer can hold is too large", got=f"{np.size(values)} values",
                            expected=f"at most {_MAX_CONSTANT}")  # fmt: skip
        array = np.ascontiguousarray(values, np.float32).reshape(np.shape(values))
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            self.note("constants that no layer can hold are biases of layers InnerProduct with weights of 0")
            one, size = self._one(), max(1, array.size)
            flat = self.add("InnerProduct", [one], (1, size), name=f"{name}_values",
                            weights=[np.zeros((size, 1)), array.ravel()],
                            inner_product_param={"num_output": size})  # fmt: skip
            self._constants[key] = flat
            if array.shape != (1, size):
                self._constants[key] = self.add("Reshape", [flat], array.shape, name=f"{name}_constant",
                                                reshape_param={"shape": {"dim": list(array.shape)}})  # fmt: skip
        return self._constants[key]

    def _one(self) -> Blob:
        """A blob (1, 1, 1, 1) that is 1."""
        key = ((), b"one")
        if key not in self._constants:
            if not self.inputs:
                raise NodeError("a Caffe network needs an input")
            source = self.inputs[0]
            size = math.prod(source.shape)
            row = self.add("Reshape", [source], (1, 1, 1, size), name=f"{source.name}_row",
                           reshape_param={"shape": {"dim": [1, 1, 1, -1]}})  # fmt: skip
            ones = self.add("Power", [row], (1, 1, 1, size), name=f"{source.name}_ones",
                            power_param={"scale": 0.0, "shift": 1.0})  # fmt: skip
            self._constants[key] = self.add("Pooling", [ones], (1, 1, 1, 1), name=f"{source.name}_one",
                                            pooling_param={"pool": "AVE", "global_pooling": True})  # fmt: skip
        return self._constants[key]

    def consumers(self, blob: Blob) -> list[DraftLayer]:
        return [layer for layer in self.layers if blob in layer.bottoms]
