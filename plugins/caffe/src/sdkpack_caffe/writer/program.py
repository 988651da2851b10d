"""Folds constants and works out every shape, so that only what depends on the inputs remains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.writer.source import FLOATS, Node, Source, as_float32

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Program", "Tensor", "fold"]

_MAX_GROWN: Final = 1 << 22
"""Elements of a folded constant that is larger than what it is made of: a few bytes could ask for all memory."""
_MAX_FOLDED: Final = 1 << 27
"""Elements of all folded constants together, beside four times those of the weights."""
_MAX_SHAPE_DATA: Final = 4096
"""Elements of a constant that shape inference is shown."""
_FAILURES: Final = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What ONNX's Python and C++ code raises for nodes that are wrong or unknown."""
_SAME_SHAPE: Final = ("GroupNormalization", "MeanVarianceNormalization")
"""Operators that ONNX defines by others: its inference does not look into them."""
_NOT_FOLDED: Final = ("LRN", "ConvTranspose", "Upsample")
"""ONNX's reference computes these otherwise than ONNX defines them, in some versions; so it does Softmax before 13."""
_RANDOM: Final = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A value of the model."""

    name: str
    kind: int
    """ONNX's element type, 0 where nobody knows."""
    shape: tuple[int, ...] | None
    constant: Any = None


@dataclass(slots=True)
class Program:
    """Nodes in order, none of which could be computed now."""

    source: Source
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    """Names that stand for another: results of Identity and of Dropout at inference."""
    folded: int = 0
    """Elements of constants so far, weights not counted."""
    used: set[str] = field(default_factory=set)
    """Values that a node takes or the model gives."""
    faults: dict[str, str] = field(default_factory=dict)
    """What ONNX's own checks say of nodes, by their first results."""
    masks: set[str] = field(default_factory=set)
    """Second results of MaxPool, which are other numbers in Caffe."""
    whole: set[str] = field(default_factory=set)
    """Floats that hold whole numbers."""

    @property
    def opset(self) -> int:
        return self.source.opsets.get("", 1)

    def resolve(self, name: str) -> str:
        while name in self.same:
            name = self.same[name]
        return name

    def constant(self, name: str) -> NDArray[Any] | None:
        found = self.tensors.get(self.resolve(name))
        return None if found is None else found.constant


def fold(source: Source) -> Program:
    """One pass in the nodes' order: constants are computed by ONNX's reference, shapes by its shape inference."""
    program = Program(source=source)
    for name, (kind, shape) in source.inputs.items():
        program.tensors[name] = Tensor(name=name, kind=kind, shape=shape)
    for name, array in source.constants.items():
        program.tensors[name] = _known(name, array)
    for node in source.nodes:
        node = replace(node, inputs=tuple(program.resolve(name) for name in node.inputs))  # noqa: PLW2901
        if _skip(program, node):
            continue
        results = _compute(program, node)
        if results is None:
            program.nodes.append(node)
            program.tensors.update(_infer(program, node))
        else:
            program.tensors |= {name: _known(name, array) for name, array in results.items()}
    return program


def _known(name: str, array: Any) -> Tensor:
    from onnx import helper

    array = as_float32(array)
    return Tensor(name=name, kind=helper.np_dtype_to_tensor_dtype(array.dtype), shape=array.shape, constant=array)


def _skip(program: Program, node: Node) -> bool:
    """Whether the node passes its input on: Identity, Dropout at inference, a cast from float to float."""
    if node.domain or not node.inputs or not node.outputs:
        return False
    plain = node.op == "Identity"
    if node.op == "Dropout":
        training = program.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        masked = len(node.outputs) > 1 and any(node.outputs[1] in other.inputs for other in program.source.nodes)
        plain = not masked and (
            len(node.inputs) < 3 or not node.inputs[2] or (training is not None and not training.any())
        )
    if node.op in ("Cast", "CastLike"):
        own = program.tensors.get(node.inputs[0])
        target = node.attributes.get("to", 0)
        plain = own is not None and own.constant is None and own.kind in FLOATS and target in FLOATS
    if plain:
        program.same[node.outputs[0]] = node.inputs[0]
    return plain


def _compute(program: Program, node: Node) -> dict[str, Any] | None:
    """The results, where they do not depend on the inputs."""
    import numpy as np

    inputs = [program.tensors.get(name) for name in node.inputs if name]
    if node.domain or node.op in _RANDOM or node.op in _NOT_FOLDED:
        return None
    if node.op in ("Softmax", "LogSoftmax") and program.opset < 13:
        return None
    if node.op in ("Shape", "Size") and inputs and inputs[0] is not None and inputs[0].shape is not None:
        shape = inputs[0].shape
        part = shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]
        value = np.array(part, np.int64) if node.op == "Shape" else np.array(math.prod(shape), np.int64)
        return {node.outputs[0]: value}
    if any(tensor is None or tensor.constant is None for tensor in inputs) or not all(_bounded(node)):
        return None
    values = {tensor.name: tensor.constant for tensor in inputs if tensor is not None}
    size = sum(math.prod(tensor.shape) for tensor in _infer(program, node).values() if tensor.shape is not None)
    room = _MAX_FOLDED + 4 * sum(array.size for array in program.source.constants.values())
    if size > max(_MAX_GROWN, sum(array.size for array in values.values())) or program.folded + size > room:
        return None
    program.folded += size
    return _evaluate(program, node, values)


def _bounded(node: Node) -> Iterable[bool]:
    """Subgraphs may run without end."""
    return (entry.type not in (5, 10) for entry in node.proto.attribute)


def _evaluate(program: Program, node: Node, values: Mapping[str, Any]) -> dict[str, Any] | None:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.outputs if name]
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    proto.input[:] = node.inputs
    graph = helper.make_graph(
        [proto], "fold",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
         for name, array in values.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", program.opset)])
    try:
        results = ReferenceEvaluator(model).run(None, dict(values))
    # It stays in the graph, and its rule says what is wrong.
    except _FAILURES:
        return None
    import numpy as np

    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        return None
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _infer(program: Program, node: Node) -> dict[str, Tensor]:
    """Types and shapes of a node's results; unknown ones have the shape None."""
    found = {name: Tensor(name=name, kind=0, shape=None) for name in node.outputs if name}
    for name, kind in _types(program, node).items():
        own = kind.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in own.shape.dim]
        shape = tuple(sizes) if own.HasField("shape") and min(sizes, default=0) >= 0 else None
        if name in found:
            found[name] = Tensor(name=name, kind=1 if own.elem_type in FLOATS else own.elem_type, shape=shape)
    if node.op in _SAME_SHAPE and not node.domain and len(found) == 1 and node.inputs[0] in program.tensors:
        like = program.tensors[node.inputs[0]]
        found = {name: replace(like, name=name, constant=None) for name in found}
    return found


def _types(program: Program, node: Node) -> Mapping[str, Any]:
    import onnx
    from onnx import helper, numpy_helper

    types: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for name in node.inputs:
        tensor = program.tensors.get(name)
        if name and (tensor is None or tensor.shape is None):
            return {}
        if tensor is not None:
            types[name] = helper.make_tensor_type_proto(tensor.kind, tensor.shape)
            if tensor.constant is not None and tensor.constant.size <= _MAX_SHAPE_DATA:
                data[name] = numpy_helper.from_array(tensor.constant, name)
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    proto.input[:] = node.inputs
    try:
        schema = onnx.defs.get_schema(node.op, program.opset, node.domain)
        return dict(onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=[helper.make_opsetid("", program.opset)]
        ))  # fmt: skip
    # Unknown operators and wrong nodes have no shape, and the converter names them.
    except onnx.defs.SchemaError:
        return {}
    except (*_FAILURES, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0].replace("[ShapeInferenceError] ", "")
        program.faults[next((name for name in node.outputs if name), "")] = text[:200]
        return {}
