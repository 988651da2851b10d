"""Pairs that undo each other: quantised again with the scale and zero point that it came with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import is_onnx

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["QuantizePairsPass"]


class QuantizePairsPass(IrPass):
    """Drops QuantizeLinear behind DequantizeLinear where both have the same scale, zero point, axis and blocks.

    (q - z) * s, divided by s and rounded, is q - z again as long as the scale's type has more digits than q. The other
    order, DequantizeLinear behind QuantizeLinear, rounds; it is what a quantised model means, and stays.

    Requires: scales of float32, values of at most 16 bits. Ensures: there is no such pair.
    """

    needs = ("QuantizeLinear",)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        changed = False
        for graph in model.graphs():
            for node in list(graph):
                if not is_onnx(node, "QuantizeLinear") or node.inputs[0] is None:
                    continue
                back = node.inputs[0].producer()
                if back is None or not is_onnx(back, "DequantizeLinear") or not _undoes(node, back):
                    continue
                source = back.inputs[0]
                if source is not None and not node.outputs[0].is_graph_output():
                    node.outputs[0].replace_all_uses_with(source)
                    changed = True
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


def _undoes(forth: ir.Node, back: ir.Node) -> bool:
    import onnx_ir as ir

    (_, scale, zero), (value, old_scale, old_zero) = _padded(forth), _padded(back)
    if value is None or not _same(scale, old_scale) or not _same(zero, old_zero):
        return False
    if scale is None or scale.dtype != ir.DataType.FLOAT or zero is None:
        return False
    # The zero point says what type is made; a value of another type is another value.
    kind = value.dtype or (old_zero.dtype if old_zero is not None else None)
    if kind is None or kind != zero.dtype or not kind.is_integer() or (kind.bitwidth or 64) > 16:
        return False
    names = ("axis", "block_size", "output_dtype", "precision")
    return all(_attribute(forth, name) == _attribute(back, name) for name in names)


def _padded(node: ir.Node) -> list[ir.Value | None]:
    return [*node.inputs, None, None][:3]


def _attribute(node: ir.Node, name: str) -> object:
    return node.attributes[name].value if name in node.attributes else None


def _same(one: ir.Value | None, other: ir.Value | None) -> bool:
    """One value, or two constants of the same content."""
    import numpy as np
    from onnx_ir.convenience import get_const_tensor

    if one is other:
        return True
    if one is None or other is None or one.is_graph_input() or other.is_graph_input():
        return False
    left, right = get_const_tensor(one), get_const_tensor(other)
    if left is None or right is None or left.dtype != right.dtype:
        return False
    return bool(np.array_equal(left.numpy(), right.numpy()))
