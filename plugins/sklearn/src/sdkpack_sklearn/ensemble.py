"""Boosted models as sums of trees, and the ONNX that computes them.

Why not the published converters: onnxmltools 1.16.0 gives other values than the library for a dozen of objectives
(docs/decisions/0074-own-trees.md). Here a model is what its library computes: sums of leaves, then a link function.

    margin[n, k] = base[k] + sum over trees of class k of the leaf that row n falls into     (or a linear function)
    answer       = link(scale * margin)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

__all__ = ["Boosted", "Linear", "Link", "Sink", "TreeTable", "emit", "emit_classes", "floor32"]

Link = Literal["identity", "sigmoid", "exp", "softmax", "square", "hinge", "softplus"]


_NODE_FIELDS: Final = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids",
    "nodes_falsenodeids", "nodes_missing_value_tracks_true",
)  # fmt: skip
_LEAF_FIELDS: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


class Sink(Protocol):
    """Where nodes go: a graph of our own, or one that skl2onnx makes."""

    def node(self, operator: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, named `output` or by the sink; returns that name."""
        ...

    def constant(self, values: Any) -> str:
        """Adds a NumPy array; returns its name."""
        ...


@dataclass(slots=True)
class TreeTable:
    """The attributes of ONNX's TreeEnsembleRegressor (ai.onnx.ml 3), filled tree by tree.

    A row that is NaN at a split goes to the true branch where `nan_true` is set.
    """

    nodes: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _NODE_FIELDS})
    leaves: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _LEAF_FIELDS})

    def split(
        self, tree: int, node: int, *, feature: int, mode: str, value: float, true: int, false: int, nan_true: bool
    ) -> None:
        self._add(tree, node, feature, mode, value, true, false, int(nan_true))

    def leaf(self, tree: int, node: int, *, target: int, weight: float) -> None:
        self._add(tree, node, 0, "LEAF", 0.0, 0, 0, 0)
        for name, item in zip(_LEAF_FIELDS, (tree, node, target, float(weight)), strict=True):
            self.leaves[name].append(item)

    def _add(self, *row: Any) -> None:
        for name, item in zip(_NODE_FIELDS, row, strict=True):
            self.nodes[name].append(item)

    def attributes(self, base: Sequence[float]) -> dict[str, Any]:
        return {
            **self.nodes, **self.leaves, "n_targets": len(base), "base_values": [float(value) for value in base],
            "aggregate_function": "SUM", "post_transform": "NONE",
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """margin = X W + b; a missing value counts as 0. `weights` is float32 [features, targets]."""

    weights: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosted:
    """One model of a boosting library."""

    body: TreeTable | Linear
    features: int
    base: tuple[float, ...]
    """For each target, in the space of margins."""
    link: Link
    classes: int = 0
    """0: no classifier."""
    scale: float = 1.0
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def emit(sink: Sink, model: Boosted, x: str, margin: str = "") -> str:
    """Adds what computes `link(scale * margin)`, float32 [N, targets] from float32 [N, features]."""
    import numpy as np

    if isinstance(model.body, Linear):
        known = sink.node("Where", [sink.node("IsNaN", [x]), sink.constant(np.zeros((), np.float32)), x])
        product = sink.node("MatMul", [known, sink.constant(model.body.weights)])
        value = sink.node("Add", [product, sink.constant(np.array(model.base, np.float32))], margin)
    else:
        attributes = model.body.attributes(model.base)
        value = sink.node("TreeEnsembleRegressor", [x], margin, "ai.onnx.ml", **attributes)
    if model.scale != 1.0:
        value = sink.node("Mul", [value, sink.constant(np.array(model.scale, np.float32))])
    return _linked(sink, model.link, value)


def _linked(sink: Sink, link: Link, value: str) -> str:
    import numpy as np

    if link == "softmax":
        return sink.node("Softmax", [value], axis=1)
    if link == "square":
        return sink.node("Mul", [value, sink.node("Abs", [value])])
    if link == "hinge":
        return sink.node("Cast", [sink.node("Greater", [value, sink.constant(np.zeros((), np.float32))])], to=1)
    names = {"sigmoid": "Sigmoid", "exp": "Exp", "softplus": "Softplus"}
    return value if link == "identity" else sink.node(names[link], [value])


def emit_classes(sink: Sink, model: Boosted, value: str, classes: Any, label: str, probabilities: str) -> None:
    """Adds `label` [N] and `probabilities` float32 [N, classes] of a classifier; `classes` is an array of its labels,
    or None for 0, 1, 2...
    """
    import numpy as np

    if len(model.base) == 1:
        rest = sink.node("Sub", [sink.constant(np.ones((), np.float32)), value])
        value = sink.node("Concat", [rest, value], probabilities, axis=1)
    else:
        value = sink.node("Identity", [value], probabilities)
    if classes is None:
        sink.node("ArgMax", [value], label, axis=1, keepdims=0)
        return
    place = sink.node("ArgMax", [value], axis=1, keepdims=0)
    sink.node("Gather", [sink.constant(classes), place], label, axis=0)


def floor32(value: float) -> float:
    """The greatest float32 that is not above `value`: a float32 x is not above the one just where it is not above the
    other, so that a threshold of float64 loses nothing.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        near = np.float32(value)
    # As doubles: NumPy would compare a float32 with a Python float in float32.
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near)
