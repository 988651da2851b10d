"""Layer normalisation in eight operators becomes LayerNormalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import is_onnx, only_reader, replace_value, scalar_of
from sdkpack_optimize.files import ModelFile
from sdkpack_optimize.passes.opset import opset_of
from sdkpack_optimize.shapes import constant_ints, inferred_shapes, known_dims

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FuseLayerNormPass"]


class FuseLayerNormPass(IrPass):
    """Makes (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias, over the last axis, the operator
    LayerNormalization. The libraries' rule knows the axis only where it is an input, from opset 18.

    Requires: opset 17; float32; scale and bias are constants of the last axis' size. Ensures: no such chain is left
    whose inner values nothing else reads.
    """

    needs = ("Sqrt",)

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        if (opset_of(source.proto) or 0) < 17:
            return "LayerNormalization needs opset 17"
        return super().unfit(source, request)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        with inferred_shapes(model):
            roots = [node for graph in model.graphs() for node in graph if is_onnx(node, "Sqrt")]
            changed = [node for node in roots if _fuse(node)]
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


def _fuse(root: ir.Node) -> bool:
    import onnx_ir as ir

    found = _variance(root)
    if found is None:
        return False
    source, epsilon = found
    if source.dtype != ir.DataType.FLOAT or not (dims := known_dims(source)) or not isinstance(dims[-1], int):
        return False
    normal = _normalised(root, source)
    scaled = _reader(normal, "Mul") if normal is not None else None
    if normal is None or scaled is None or (scale := _vector(scaled, normal, dims[-1])) is None:
        return False
    shifted = _reader(scaled, "Add")
    bias = _vector(shifted, scaled, dims[-1]) if shifted is not None else None
    last = shifted if shifted is not None and bias is not None else scaled
    inputs = [source, scale] if bias is None else [source, scale, bias]
    fused = ir.node("LayerNormalization", inputs, attributes={"axis": -1, "epsilon": epsilon})
    assert last.graph is not None
    last.graph.insert_before(last, fused)
    replace_value(last.outputs[0], fused.outputs[0])
    return True


def _variance(root: ir.Node) -> tuple[ir.Value, float] | None:
    """x and epsilon of sqrt(mean((x - mean(x))^2) + epsilon)."""
    total = _producer(root.inputs[0])
    if not is_onnx(total, "Add"):
        return None
    assert total is not None
    for place in (0, 1):
        epsilon, mean = scalar_of(total.inputs[1 - place]), _producer(total.inputs[place])
        square = _producer(mean.inputs[0]) if mean is not None and _is_mean(mean) else None
        if epsilon is None or square is None or (deviation := _squared(square)) is None:
            continue
        if (source := _deviates(deviation)) is not None:
            return source, epsilon
    return None


def _squared(node: ir.Node) -> ir.Value | None:
    if is_onnx(node, "Pow") and scalar_of(node.inputs[1]) == 2.0:
        return node.inputs[0]
    if is_onnx(node, "Mul") and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    return None


def _deviates(value: ir.Value | None) -> ir.Value | None:
    """x of x - mean(x)."""
    node = _producer(value)
    if node is None or not is_onnx(node, "Sub"):
        return None
    mean = _producer(node.inputs[1])
    return node.inputs[0] if mean is not None and _is_mean(mean) and mean.inputs[0] is node.inputs[0] else None


def _is_mean(node: ir.Node) -> bool:
    """Over the last axis, which stays."""
    if not is_onnx(node, "ReduceMean") or node.attributes.get_int("keepdims", 1) != 1:
        return False
    axes = constant_ints(node.inputs[1]) if len(node.inputs) > 1 else list(node.attributes.get_ints("axes", []))
    dims = known_dims(node.inputs[0])
    return dims is not None and axes in ([-1], [len(dims) - 1])


def _normalised(root: ir.Node, source: ir.Value) -> ir.Node | None:
    """(x - mean(x)) / root, or times its reciprocal."""
    reader = _reader(root, "Div")
    if reader is not None:
        return reader if reader.inputs[1] is root.outputs[0] and _deviates(reader.inputs[0]) is source else None
    reciprocal = _reader(root, "Reciprocal")
    reader = _reader(reciprocal, "Mul") if reciprocal is not None else None
    if reader is None or reciprocal is None:
        return None
    other = next((value for value in reader.inputs if value is not reciprocal.outputs[0]), None)
    return reader if _deviates(other) is source else None


def _vector(node: ir.Node, producer: ir.Node, size: int) -> ir.Value | None:
    """The constant of one axis that a node takes beside what `producer` makes."""
    value = next((item for item in node.inputs if item is not producer.outputs[0]), None)
    constant = value is not None and value.const_value is not None and not value.is_graph_input()
    return value if constant and known_dims(value) == [size] else None


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None


def _reader(node: ir.Node, operator: str) -> ir.Node | None:
    """The only reader of a node, where it is this operator."""
    reader = only_reader(node)
    return reader if is_onnx(reader, operator) else None
