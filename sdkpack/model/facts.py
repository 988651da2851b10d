"""What a model says of itself: inputs, outputs, operators, sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError
from sdkpack.model.elements import ELEMENTS, STRING, tensor_bytes
from sdkpack.model.external import external_locations
from sdkpack.model.walk import iter_node_lists, iter_tensors
from sdkpack.types import SHAPE_SYMBOL, TensorSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

    from sdkpack.model.load import LoadedModel

__all__ = ["ModelFacts", "OperatorUse", "describe"]

ONNX_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})
"""Domains that the ONNX project defines; every other one needs code that a bundle does not carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorUse:
    """An operator and how many nodes use it, subgraphs and functions included; domain "" is ONNX's own."""

    domain: str
    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts of one model; nothing in it depends on the machine or the day."""

    name: str
    ir_version: int
    opsets: tuple[tuple[str, int], ...]
    """(domain, version), sorted by domain; "" is ONNX's own."""
    producer: str
    inputs: tuple[TensorSpec, ...]
    """What a caller must give: graph inputs without a value of their own."""
    outputs: tuple[TensorSpec, ...]
    operators: tuple[OperatorUse, ...]
    custom_domains: tuple[str, ...]
    """Domains of used operators that are neither ONNX's nor defined by a function inside the model."""
    metadata: tuple[tuple[str, str], ...]
    parameter_count: int
    """Elements of all initializers and constants."""
    parameter_bytes: int
    external_files: tuple[str, ...]
    """Locations of external data, as the model writes them; they belong to the model's identity."""

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 0 where the model uses none of them."""
        return dict(self.opsets).get("", 0)


def describe(model: LoadedModel) -> ModelFacts:
    """Reads the facts of a loaded model. No weights are read.

    Raises:
        ModelError: an input or output is no tensor, or a declaration makes no sense.
    """
    proto = model.proto
    operators = Counter((_domain(node.domain), node.op_type) for _, nodes in iter_node_lists(proto) for node in nodes)
    own = {(_domain(function.domain), function.name) for function in proto.functions}
    custom = {domain for domain, name in operators if domain not in ONNX_DOMAINS and (domain, name) not in own}
    count, size = _parameters(model)
    return ModelFacts(
        name=proto.graph.name,
        ir_version=proto.ir_version,
        opsets=tuple(sorted((_domain(entry.domain), entry.version) for entry in proto.opset_import)),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=_inputs(proto.graph),
        outputs=tuple(_spec(value, "output") for value in _outputs(proto)),
        operators=tuple(OperatorUse(domain=d, name=n, count=c) for (d, n), c in sorted(operators.items())),
        custom_domains=tuple(sorted(custom)),
        metadata=_metadata(proto.metadata_props),
        parameter_count=count,
        parameter_bytes=size,
        external_files=external_locations(proto),
    )


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _inputs(graph: GraphProto) -> tuple[TensorSpec, ...]:
    # Up to IR version 3 every initializer is listed as an input too; later ones may be: a default, not a demand.
    valued = {tensor.name for tensor in graph.initializer}
    valued |= {sparse.values.name for sparse in graph.sparse_initializer}
    return tuple(_spec(value, "input") for value in graph.input if value.name not in valued)


def _outputs(proto: ModelProto) -> list[ValueInfoProto]:
    """The outputs, with shapes that ONNX can infer where the exporter left one out."""
    declared = list(proto.graph.output)
    if all(value.type.tensor_type.HasField("shape") for value in declared):
        return declared
    from onnx import ModelProto, helper, shape_inference

    # Shapes follow from types alone, so the weights stay out: declared as inputs, they are not copied.
    bare = ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    bare.graph.name = proto.graph.name
    bare.graph.node.extend(proto.graph.node)
    bare.graph.output.extend(declared)
    bare.graph.input.extend(proto.graph.input)
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.name not in known:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return list(shape_inference.infer_shapes(bare).graph.output)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return declared  # its missing shape is then refused by name


def _spec(value: ValueInfoProto, role: str) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        shown = (kind or "value of no stated type").removesuffix("_type").replace("_", " ")
        raise ModelError(
            f"{role} {value.name!r} is a {shown}, expected a tensor",
            hint="export the model with tensors as inputs and outputs",
        )
    tensor = value.type.tensor_type
    element = ELEMENTS.get(tensor.elem_type)
    if element is None:
        raise ModelError(
            f"{role} {value.name!r} has an unknown element type, got number {tensor.elem_type}, "
            f"expected 1 to {max(ELEMENTS)}"
        )
    if not tensor.HasField("shape"):
        raise ModelError(
            f"{role} {value.name!r} has no declared rank",
            hint="declare its shape; a dimension of any size is written as a name",
        )
    return TensorSpec(name=value.name, dtype=element.name, shape=tuple(_dim(dim, value) for dim in tensor.shape.dim))


def _dim(dim: Any, value: ValueInfoProto) -> int | str:
    if dim.WhichOneof("value") == "dim_value":
        if dim.dim_value > 1 << 40:
            raise ModelError(f"{value.name!r} declares a dimension of {dim.dim_value}, expected at most 2^40")
        # Negative numbers are how some exporters write "unknown".
        return dim.dim_value if dim.dim_value >= 0 else "?"
    name = dim.dim_param
    return name if SHAPE_SYMBOL.fullmatch(name) else "?"


def _metadata(props: Any) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for entry in props:
        if entry.key in found:
            raise ModelError(f"metadata key {entry.key!r} stands twice")
        found[entry.key] = entry.value
    return tuple(sorted(found.items()))


def _parameters(model: LoadedModel) -> tuple[int, int]:
    count = size = 0
    for placed in iter_tensors(model.proto):
        if placed.tensor.data_type == STRING:
            count += len(placed.tensor.string_data)
            continue
        length = tensor_bytes(placed.tensor, placed.where)
        size += length
        count += length * 8 // ELEMENTS[placed.tensor.data_type].bits
    return count, size
