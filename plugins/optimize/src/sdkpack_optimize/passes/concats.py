"""Concatenations of concatenations become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import replace_value

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ConcatsPass"]


class ConcatsPass(IrPass):
    """Puts the inputs of a Concat that only another Concat of the same axis reads in its place.

    Requires: both axes count from the same end. Ensures: no Concat reads such a Concat.
    """

    needs = ("Concat",)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        import onnx_ir as ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        changed = False
        for graph in model.graphs():
            for node in list(graph):
                if not _is_concat(node):
                    continue
                inputs: list[ir.Value | None] = []
                for value in node.inputs:
                    inner = value.producer() if value is not None else None
                    inputs += inner.inputs if inner is not None and _is_inner(inner, node) else [value]
                if len(inputs) == len(node.inputs):
                    continue
                merged = ir.node("Concat", inputs, attributes=dict(node.attributes))
                graph.insert_before(node, merged)
                replace_value(node.outputs[0], merged.outputs[0])
                changed = True
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


def _is_concat(node: ir.Node) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type == "Concat" and "axis" in node.attributes


def _is_inner(inner: ir.Node, outer: ir.Node) -> bool:
    same = _is_concat(inner) and inner.graph is outer.graph
    if not same or inner.attributes["axis"].as_int() != outer.attributes["axis"].as_int():
        return False
    output = inner.outputs[0]
    return not output.is_graph_output() and {use.node for use in output.uses()} == {outer}
