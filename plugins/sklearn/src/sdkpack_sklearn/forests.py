"""Missing values in scikit-learn's trees: they go where training found best, in skl2onnx 1.20.0 always to the right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sdkpack_sklearn.nesting import parts_of

__all__ = ["direct_missing"]


def direct_missing(source: Any, model: Any) -> tuple[str, ...]:
    """Sets in an ONNX model which way NaN goes at each split of a forest.

    Returns:
        A note where that is not possible, because several forests stand in the model.
    """
    trees = [found for part in parts_of(source) if (found := list(_trees(part)))]
    nodes = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not any(tree.missing_go_to_left.any() for forest in trees for tree in forest):
        return ()
    if len(trees) == len(nodes) == 1 and _set(nodes[0], trees[0]):
        return ()
    return ("rows with missing values (NaN) take another way through the trees than in scikit-learn: fill them in",)


def _trees(part: Any) -> Iterator[Any]:
    """The trees of a part that is a tree or a forest, and takes NaN."""
    members = getattr(part, "estimators_", None)
    if hasattr(part, "tree_"):
        yield part.tree_
    elif members is not None and type(part).__name__.startswith(("RandomForest", "ExtraTrees")):
        yield from (member.tree_ for member in members)


def _set(node: Any, trees: list[Any]) -> bool:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    places = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    modes = attributes["nodes_modes"].strings
    try:
        left = [int(trees[tree].missing_go_to_left[place]) for tree, place in places]
    except IndexError:
        return False
    # A node of ours and of the tree must be the same one: a leaf there is a leaf here.
    places = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    if any((mode == b"LEAF") != (trees[t].children_left[n] == -1) for mode, (t, n) in zip(modes, places, strict=True)):
        return False
    from onnx import helper

    found = attributes.get("nodes_missing_value_tracks_true")
    if found is not None:
        node.attribute.remove(found)
    flags = [0 if mode == b"LEAF" else flag for mode, flag in zip(modes, left, strict=True)]
    node.attribute.append(helper.make_attribute("nodes_missing_value_tracks_true", flags))
    return True
