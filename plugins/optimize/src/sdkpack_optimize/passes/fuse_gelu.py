"""GELU in five operators becomes Gelu."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import is_onnx, only_reader, replace_value, scalar_of
from sdkpack_optimize.files import ModelFile
from sdkpack_optimize.passes.opset import opset_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FuseGeluPass"]

_CLOSE: Final = 5e-4
"""The relative error of a constant that was rounded to float16."""


class FuseGeluPass(IrPass):
    """Makes x * 0.5 * (1 + erf(x / sqrt 2)), in whatever order it was multiplied, the operator Gelu.

    Requires: opset 20. Ensures: no such product is left whose inner values nothing else reads.
    """

    needs = ("Erf",)

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        if (opset_of(source.proto) or 0) < 20:
            return "Gelu needs opset 20"
        return super().unfit(source, request)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        import onnx_ir as ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        changed = False
        for graph in model.graphs():
            for node in list(graph):
                found = _match(node)
                if found is None:
                    continue
                source, last = found
                gelu = ir.node("Gelu", [source])
                assert last.graph is not None
                last.graph.insert_before(last, gelu)
                replace_value(last.outputs[0], gelu.outputs[0])
                changed = True
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


def _match(erf: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """x and the node of the product, found from the Erf in the middle."""
    if not is_onnx(erf, "Erf") or erf.inputs[0] is None:
        return None
    source = _scaled(erf.inputs[0].producer())
    added = only_reader(erf)
    if source is None or added is None or not is_onnx(added, "Add") or _other(added, erf, 1.0) is None:
        return None
    node, missing = added, {"x", "half"}
    while missing:
        product = only_reader(node)
        if product is None or not is_onnx(product, "Mul"):
            return None
        factor = next((value for value in product.inputs if value is not node.outputs[0]), None)
        found = _factors(factor, source)
        if not found or not found <= missing:
            return None
        missing -= found
        node = product
    return source, node


def _scaled(node: ir.Node | None) -> ir.Value | None:
    """x of x / sqrt 2, in either way of writing it."""
    if node is not None and is_onnx(node, "Div") and _is(node.inputs[1], math.sqrt(2)):
        return node.inputs[0]
    if node is not None and is_onnx(node, "Mul"):
        for place in (0, 1):
            if _is(node.inputs[1 - place], math.sqrt(0.5)):
                return node.inputs[place]
    return None


def _factors(value: ir.Value | None, source: ir.Value) -> set[str]:
    """What a factor stands for: x, 0.5, or both."""
    if value is source:
        return {"x"}
    if _is(value, 0.5):
        return {"half"}
    producer = value.producer() if value is not None else None
    if producer is not None and is_onnx(producer, "Mul") and source in producer.inputs:
        other = next((item for item in producer.inputs if item is not source), None)
        return {"x", "half"} if _is(other, 0.5) else set()
    return set()


def _other(node: ir.Node, producer: ir.Node, wanted: float) -> ir.Value | None:
    return next((value for value in node.inputs if value is not producer.outputs[0] and _is(value, wanted)), None)


def _is(value: ir.Value | None, wanted: float) -> bool:
    """A constant of one element and no shape of its own: it must not widen x."""
    number = scalar_of(value)
    narrow = value is not None and value.shape is not None and value.shape.rank() <= 1
    return number is not None and narrow and math.isclose(number, wanted, rel_tol=_CLOSE)
