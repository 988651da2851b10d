"""Scaled dot-product attention in its parts becomes Attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass
from sdkpack_optimize.edits import is_onnx, only_reader, replace_value, scalar_of
from sdkpack_optimize.files import ModelFile
from sdkpack_optimize.passes.opset import opset_of
from sdkpack_optimize.shapes import inferred_shapes, known_dims

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FuseAttentionPass"]

_SINCE: Final = 23
_RANK: Final = 4


class FuseAttentionPass(IrPass):
    """Makes softmax(q k^T * scale + mask) v the operator Attention, of which runtimes have kernels that never hold the
    whole matrix of weights (ONNX, Attention 23; Dao et al., FlashAttention, 2022).

    Requires: opset 23; float32; q, k and v of [batch, heads, length, size], with known sizes of the last axis and the
    same batch and heads, as far as shapes tell. Ensures: no such chain is left whose inner values nothing else reads.
    """

    needs = ("Softmax",)

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        if (opset_of(source.proto) or 0) < _SINCE:
            return f"Attention needs opset {_SINCE}"
        return super().unfit(source, request)

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        with inferred_shapes(model):
            roots = [node for graph in model.graphs() for node in graph if is_onnx(node, "Softmax")]
            changed = [node for node in roots if _fuse(node)]
        if changed:
            RemoveUnusedNodesPass()(model)
        return ()


@dataclass(slots=True)
class _Scores:
    """q k^T, by what it is multiplied, and what is added."""

    query: ir.Value
    key: ir.Value
    scale: float
    mask: ir.Value | None = None


def _fuse(softmax: ir.Node) -> bool:
    import onnx_ir as ir

    if softmax.attributes.get_int("axis", -1) not in (-1, _RANK - 1):
        return False
    last = only_reader(softmax)
    scores = _scores(softmax.inputs[0])
    if last is None or not is_onnx(last, "MatMul") or last.inputs[0] is not softmax.outputs[0] or scores is None:
        return False
    value = last.inputs[1]
    if value is None or not _fit(scores, value):
        return False
    inputs = [scores.query, scores.key, value] + ([scores.mask] if scores.mask is not None else [])
    fused = ir.node("Attention", inputs, attributes={"scale": scores.scale})
    assert last.graph is not None
    last.graph.insert_before(last, fused)
    replace_value(last.outputs[0], fused.outputs[0])
    return True


def _scores(value: ir.Value | None) -> _Scores | None:
    node = _alone(value)
    if node is None:
        return None
    if is_onnx(node, "Add"):
        for place in (0, 1):
            found, mask = _products(node.inputs[place]), node.inputs[1 - place]
            if found is not None and mask is not None and _is_mask(mask):
                found.mask = mask
                return found
        return None
    return _products(value)


def _products(value: ir.Value | None) -> _Scores | None:
    """q k^T with numbers multiplied to it, to q or to k."""
    value, after = _unscaled(value)
    node = _alone(value)
    if node is None or not is_onnx(node, "MatMul"):
        return None
    query, before = _unscaled(node.inputs[0])
    turned, beside = _unscaled(node.inputs[1])
    transpose = _alone(turned)
    if transpose is None or not is_onnx(transpose, "Transpose") or query is None:
        return None
    if list(transpose.attributes.get_ints("perm", [])) != [0, 1, 3, 2]:
        return None
    key, within = _unscaled(transpose.inputs[0])
    return None if key is None else _Scores(query, key, after * before * beside * within)


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """The value without the numbers that it is multiplied by, and their product."""
    scale = 1.0
    while (node := _alone(value)) is not None and node.op_type in ("Mul", "Div") and is_onnx(node, node.op_type):
        second = scalar_of(node.inputs[1])
        if second is not None and (second != 0 or node.op_type == "Mul"):
            scale = scale * second if node.op_type == "Mul" else scale / second
            value = node.inputs[0]
            continue
        first = scalar_of(node.inputs[0]) if node.op_type == "Mul" else None
        if first is None:
            break
        scale, value = scale * first, node.inputs[1]
    return value, scale


def _fit(scores: _Scores, value: ir.Value) -> bool:
    import onnx_ir as ir

    dims = []
    for one in (scores.query, scores.key, value):
        known = known_dims(one)
        if one.dtype != ir.DataType.FLOAT or known is None or len(known) != _RANK or not isinstance(known[-1], int):
            return False
        dims.append(known)
    query, key, own = dims
    # Shapes that broadcast are MatMul's, not Attention's; and Attention takes the root of its scale.
    return scores.scale > 0 and query[-1] == key[-1] and query[:2] == key[:2] == own[:2] and None not in query[:2]


def _is_mask(value: ir.Value) -> bool:
    import onnx_ir as ir

    known = known_dims(value)
    return value.dtype == ir.DataType.FLOAT and known is not None and len(known) in (2, _RANK)


def _alone(value: ir.Value | None) -> ir.Node | None:
    """Who makes a value that nothing else reads."""
    if value is None or value.is_graph_output() or len({use.node for use in value.uses()}) != 1:
        return None
    return value.producer()
