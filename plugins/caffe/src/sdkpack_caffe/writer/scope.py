"""One node of the model as its rule sees it, and the layers that many rules are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import Shape
from sdkpack_caffe.writer.draft import Blob, Draft, NodeError
from sdkpack_caffe.writer.program import Program, Tensor
from sdkpack_caffe.writer.source import FLOATS, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NodeRule", "NodeRules", "NodeScope"]

_MAX_MATRIX: Final = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeScope:
    """What a rule may ask and do."""

    program: Program
    draft: Draft
    node: Node
    blobs: dict[str, Blob]
    """What each value of the model is in Caffe, so far."""

    # What the node says ------------------------------------------------------------------------------------------
    @property
    def opset(self) -> int:
        return self.program.opset

    @property
    def name(self) -> str:
        """Of the first result, which names of layers begin with."""
        return next((name for name in self.node.outputs if name), self.node.op)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def has(self, number: int) -> bool:
        return number < len(self.node.inputs) and bool(self.node.inputs[number])

    def wants(self, number: int) -> bool:
        """Whether something uses result number `number`."""
        return number < len(self.node.outputs) and self.node.outputs[number] in self.program.used

    def producer(self, number: int) -> Node | None:
        """The node that makes an input."""
        name = self.node.inputs[number]
        return next((node for node in self.program.nodes if name in node.outputs), None)

    def users(self) -> list[Node]:
        """The nodes that take the first result."""
        return [node for node in self.program.nodes if self.node.outputs[0] in node.inputs]

    def tensor(self, number: int) -> Tensor:
        if not self.has(number):
            raise NodeError(f"input {number} is missing")
        found = self.program.tensors.get(self.program.resolve(self.node.inputs[number]))
        if found is None or (found.shape is None and found.constant is None):
            raise NodeError(f"the shape of input {number} is not known", got=self.node.inputs[number],
                            hint="fix the shapes of the inputs, or cut the model before the node that decides it",
                            follows=True)  # fmt: skip
        return found

    def shape(self, number: int, *ranks: int) -> Shape:
        """The shape of an input, with one of so many dimensions."""
        shape = self.tensor(number).shape or ()
        if ranks and len(shape) not in ranks:
            raise NodeError("wrong number of dimensions for Caffe", got=str(list(shape)),
                            expected=f"{' or '.join(map(str, ranks))} dimensions")  # fmt: skip
        return shape

    def result(self, number: int = 0) -> Shape:
        """The shape of a result, as ONNX has it."""
        found = self.program.tensors.get(self.node.outputs[number])
        if found is None or found.shape is None:
            raise NodeError("the shape of its result depends on values, and Caffe's are fixed",
                            hint="cut the model before it: models.NAME.cut", follows=True)  # fmt: skip
        return found.shape

    def is_constant(self, number: int) -> bool:
        return self.has(number) and self.tensor(number).constant is not None

    def constant(self, number: int, what: str) -> NDArray[Any]:
        """A weight or setting that must be known now."""
        found = self.tensor(number).constant
        if found is None:
            raise NodeError(f"its {what} are computed, and Caffe's are fixed", got=self.node.inputs[number],
                            expected="a constant")  # fmt: skip
        array: NDArray[Any] = found
        return array

    def setting(self, name: str, number: int, default: Sequence[int] | None = None) -> list[int] | None:
        """A list that older opsets have as an attribute and newer ones as an input."""
        if name in self.node.attributes:
            value = self.node.attributes[name]
            return [int(part) for part in value] if isinstance(value, list | tuple) else [int(value)]
        if self.has(number):
            return [int(part) for part in self.constant(number, name).ravel()]
        return None if default is None else list(default)

    def axis(self, axis: int, rank: int) -> int:
        found = axis + rank if axis < 0 else axis
        if not 0 <= found < max(rank, 1):
            raise NodeError("the axis is not there", got=str(axis), expected=f"one of {rank}")
        return found

    def bottom(self, number: int, *, integers: bool = False, mask: bool = False) -> Blob:
        """An input as a blob; a constant becomes one.

        Args:
            integers: the rule may be given integers and truth values, which are floats in Caffe.
            mask: the rule takes a MaxPool's places as Caffe counts them, within a plane.

        Raises:
            NodeError: it holds what the rule does not take.
        """
        tensor = self.tensor(number)
        if not integers and tensor.kind not in FLOATS:
            raise NodeError("it computes with integers, and Caffe with floats alone", got=self.node.inputs[number])
        if tensor.constant is not None:
            if tensor.constant.dtype.kind not in "fiub":
                raise NodeError("its constant has no numbers", got=str(tensor.constant.dtype))
            return self.draft.constant(tensor.constant, self.name)
        name = self.program.resolve(self.node.inputs[number])
        if name in self.program.masks and not mask:
            raise NodeError("places of a MaxPool count through the whole tensor in ONNX, and through a plane in Caffe",
                            got=name)  # fmt: skip
        if name not in self.blobs:
            raise NodeError("what it takes has no result in Caffe", got=name, follows=True)
        return self.blobs[name]

    # Layers --------------------------------------------------------------------------------------------------------
    def add(
        self, kind: str, bottoms: Sequence[Blob], shape: Sequence[int], suffix: str = "",
        weights: Sequence[Any] = (), **settings: Mapping[str, Any],
    ) -> Blob:  # fmt: skip
        name = f"{self.name}_{suffix}" if suffix else self.name
        return self.draft.add(kind, bottoms, shape, name=name, weights=weights, **settings)

    def plain(self, kind: str, value: Blob, suffix: str = "", **settings: Mapping[str, Any]) -> Blob:
        """A layer that keeps the shape."""
        return self.add(kind, [value], value.shape, suffix, (), **settings)

    def power(self, value: Blob, scale: float = 1, shift: float = 0, power: float = 1, suffix: str = "power") -> Blob:
        """(shift + scale * x) ^ power; what changes nothing is no layer."""
        wanted = {"scale": scale, "shift": shift, "power": power}
        fields = {name: float(part) for name, part in wanted.items() if part != (name != "shift")}
        if not all(math.isfinite(part) for part in fields.values()):
            raise NodeError("its constant is not finite", got=str(fields))
        return self.plain("Power", value, suffix, power_param=fields) if fields else value

    def eltwise(self, operation: str, values: Sequence[Blob], coefficients: Sequence[float] = ()) -> Blob:
        """PROD, SUM or MAX of blobs of one shape."""
        fields: dict[str, Any] = {} if operation == "SUM" else {"operation": operation}
        if any(part != 1 for part in coefficients):
            fields["coeff"] = [float(part) for part in coefficients]
        return self.add("Eltwise", values, values[0].shape, operation.lower(), eltwise_param=fields)

    def reshape(self, value: Blob, shape: Sequence[int]) -> Blob:
        """To a shape of as many values; a first size that stays is copied, so that a batch may grow later."""
        wanted = tuple(int(size) for size in shape)
        if wanted == value.shape:
            return value
        if math.prod(wanted) != math.prod(value.shape):
            raise NodeError("its shape has another number of values", got=str(list(wanted)),
                            expected=str(list(value.shape)))  # fmt: skip
        keep = bool(wanted and value.shape and wanted[0] == value.shape[0])
        if keep and len(wanted) == 2 and len(value.shape) > 2:
            return self.add("Flatten", [value], wanted, "flat")
        dims = [0 if keep and not at else size for at, size in enumerate(wanted)]
        return self.add("Reshape", [value], wanted, "shape", reshape_param={"shape": {"dim": dims}})

    def permute(self, value: Blob, order: Sequence[int]) -> Blob:
        """Axes in another order; where only axes of size 1 move, that is a new shape."""
        shape = [value.shape[axis] for axis in order]
        large = [axis for axis in order if value.shape[axis] != 1]
        if large == sorted(large):
            return self.reshape(value, shape)
        return self.add("Permute", [value], shape, "permute", permute_param={"order": list(order)})

    def scale(self, value: Blob, gamma: Any, beta: Any, axis: int) -> Blob:
        """x * gamma (+ beta) with weights that lie over the axes from `axis` on."""
        import numpy as np

        fields: dict[str, Any] = {} if axis == 1 else {"axis": axis}
        if np.ndim(gamma) != 1:
            fields["num_axes"] = np.ndim(gamma)
        if beta is not None:
            fields["bias_term"] = True
        weights = [gamma] if beta is None else [gamma, beta]
        return self.add("Scale", [value], value.shape, "scale", weights=weights, scale_param=fields)

    def tile(self, value: Blob, shape: Sequence[int]) -> Blob:
        """Repeats axes of size 1 until the blob has the shape; axes are added in front where they lack."""
        value = self.reshape(value, (*[1] * (len(shape) - len(value.shape)), *value.shape))
        for axis, size in enumerate(shape):
            if value.shape[axis] != size:
                value = self.repeat(value, axis, size)
        return value

    def repeat(self, value: Blob, axis: int, times: int) -> Blob:
        """All values along an axis, so many times one after another."""
        size = value.shape[axis]
        if not self.draft.allows("Tile"):
            return self.choose(value, axis, list(range(size)) * times)
        grown = (*value.shape[:axis], size * times, *value.shape[axis + 1 :])
        return self.add("Tile", [value], grown, "tile", tile_param={"axis": axis, "tiles": times})

    def slice(self, value: Blob, axis: int, lengths: Sequence[int]) -> list[Blob]:
        """Pieces along an axis."""
        if len(lengths) == 1:
            return [value]
        marks = [sum(lengths[:at]) for at in range(1, len(lengths))]
        fields: dict[str, Any] = {"slice_point": marks} if axis == 1 else {"axis": axis, "slice_point": marks}
        shapes = [(*value.shape[:axis], length, *value.shape[axis + 1 :]) for length in lengths]
        return self.draft.add_many("Slice", [value], shapes, name=f"{self.name}_part", slice_param=fields)

    def part(self, value: Blob, axis: int, start: int, end: int) -> Blob:
        """One piece along an axis; the rest goes to a layer Silence, or it would be an output of the network."""
        size = value.shape[axis]
        if not self._slices:
            return self.choose(value, axis, range(start, end))
        lengths = [length for length in (start, end - start, size - end) if length]
        pieces = self.slice(value, axis, lengths)
        wanted = pieces.pop(1 if start else 0)
        self.silence(pieces)
        return wanted

    @property
    def _slices(self) -> bool:
        return self.draft.allows("Slice") and self.draft.allows("Silence")

    def silence(self, blobs: Sequence[Blob]) -> None:
        if blobs:
            self.draft.add_many("Silence", blobs, [], name=f"{self.name}_rest")

    def check_matrix(self, *sizes: int) -> None:
        """Refuses weights that a few bytes of ONNX make large, before they are made."""
        if math.prod(sizes) > _MAX_MATRIX:
            raise NodeError("its weights would be too large", got=" x ".join(map(str, sizes)),
                            expected=f"at most {_MAX_MATRIX} values")  # fmt: skip

    def matrix(self, value: Blob, axis: int, weights: Any, bias: Any = None) -> Blob:
        """out[.., n, ..] = sum over k of weights[n, k] * in[.., k, ..] along one axis."""
        count, rank = len(weights), len(value.shape)
        shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
        arrays = [weights] if bias is None else [weights, bias]
        fields: dict[str, Any] = (
            {"num_output": count} if bias is not None else {"num_output": count, "bias_term": False}
        )
        if axis == 1 and rank == 4:
            kernels = [weights.reshape(*weights.shape, 1, 1), *arrays[1:]]
            return self.add("Convolution", [value], shape, "matrix", weights=kernels,
                            convolution_param=fields | {"kernel_size": [1]})  # fmt: skip
        order = [*(at for at in range(rank) if at != axis), axis]
        turned = self.permute(value, order)
        if rank != 2:
            fields["axis"] = rank - 1
        product = self.add("InnerProduct", [turned], (*turned.shape[:-1], count), "matrix", weights=arrays,
                           inner_product_param=fields)  # fmt: skip
        return self.permute(product, [order.index(at) for at in range(rank)])

    def choose(self, value: Blob, axis: int, places: Sequence[int]) -> Blob:
        """Places along an axis in a given order, any number of times."""
        import numpy as np

        size = value.shape[axis]
        marks = list(places)
        if marks == list(range(size)):
            return value
        if marks == list(range(marks[0], marks[0] + len(marks))) and self._slices:
            return self.part(value, axis, marks[0], marks[0] + len(marks))
        self.check_matrix(len(marks), size)
        weights = np.zeros((len(marks), size), np.float32)
        weights[np.arange(len(marks)), marks] = 1
        return self.matrix(value, axis, weights)


NodeRule = Callable[[NodeScope], "Blob | Sequence[Blob | None]"]
"""Writes the layers of one node and returns its results; None for one that nothing uses."""
NodeRules = Mapping[str, NodeRule]
