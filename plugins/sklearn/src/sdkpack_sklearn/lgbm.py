"""LightGBM's own text files, read by LightGBM itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, SniffRequest, SniffResult
from sdkpack_sklearn.ensemble import Boosted, Link, TreeTable, floor32
from sdkpack_sklearn.native import NativeConverter
from sdkpack_sklearn.params import LightGBMParams

__all__ = ["LightGBMConverter", "describe_booster"]

_HEAD_BYTES: Final = 4096
_ZERO: Final = 1.0000000180025095e-35
"""LightGBM's kZeroThreshold, 1e-35 as a float32: what is not farther from 0 counts as 0, before any split."""
_LINKS: Final[Mapping[str, Link]] = {
    "binary": "sigmoid", "multiclass": "softmax", "multiclassova": "sigmoid", "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus", "poisson": "exp", "gamma": "exp", "tweedie": "exp", "regression": "identity",
    "regression_l1": "identity", "huber": "identity", "fair": "identity", "quantile": "identity", "mape": "identity",
    "lambdarank": "identity", "rank_xendcg": "identity",
}  # fmt: skip
"""Objective -> what makes an answer of a margin: `ConvertOutput` of LightGBM's objectives."""
_CLASSIFIERS: Final = frozenset({"binary", "multiclass", "multiclassova"})


class LightGBMConverter(NativeConverter):
    """LightGBM to ONNX, tree by tree."""

    library = "lightgbm"

    def sniff(self, request: SniffRequest) -> SniffResult:
        with request.source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if re.match(rb"\s*tree\s*\r?\n", head) and b"num_class=" in head:
            return SniffResult(score=0.9, reason="text of a LightGBM model")
        if _is_dump(head):
            return SniffResult(score=0.9, reason="a dump of a LightGBM model")
        return SniffResult(score=0.0)

    def load(self, request: ConvertRequest) -> Any:
        import lightgbm

        source = request.source
        content = source.read_bytes()
        if _is_dump(content[:_HEAD_BYTES]):
            raise ModelError(
                f"{source.name!r} is a dump of a LightGBM model, which LightGBM itself cannot load again",
                hint="save the model with Booster.save_model('model.txt')",
            )
        _check_whole(content, source.name)
        try:
            return lightgbm.Booster(model_str=content.decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError, KeyError) as error:
            raise ModelError(
                f"LightGBM cannot read {source.name!r}: {str(error)[:300]}",
                hint="save it again with Booster.save_model('model.txt')",
            ) from error

    def describe(self, booster: Any, request: ConvertRequest) -> Boosted:
        return describe_booster(booster, _rounds(request))

    def predict(self, booster: Any, x: Any, request: ConvertRequest) -> tuple[Any, Any]:
        import numpy as np

        kept = _rounds(request) or booster.current_iteration()
        # In doubles: LightGBM looks at the values as they are, not at what float32 makes of them.
        rows = np.asarray(x, np.float64)
        settings = {"num_iteration": kept, "num_threads": 1}
        value = np.asarray(booster.predict(rows, **settings), np.float32).reshape(len(x), -1)
        margin = booster.predict(rows, raw_score=True, **settings).reshape(len(x), -1)
        # Raw scores of a random forest are sums (GBDT::PredictRaw), its answers are made of the mean.
        averaged = "\naverage_output\n" in booster.model_to_string(num_iteration=1)
        return value, (margin / kept if averaged else margin).astype(np.float32)


def _rounds(request: ConvertRequest) -> int:
    return request.params.rounds if isinstance(request.params, LightGBMParams) else 0


def _is_dump(head: bytes) -> bool:
    return bool(re.match(rb"\s*\{", head)) and b'"num_tree_per_iteration"' in head


def _check_whole(content: bytes, name: str) -> None:
    """LightGBM takes a file that was cut off between two trees for a smaller model."""
    wrong = ""
    sizes = re.search(rb"^tree_sizes=([\d ]*)\r?$", content, re.MULTILINE)
    trees = len(re.findall(rb"^Tree=\d+\r?$", content, re.MULTILINE))
    if not content.startswith(b"tree"):
        wrong = "it does not begin with 'tree'"
    elif sizes is not None and len(sizes[1].split()) != trees:
        wrong = f"it says {len(sizes[1].split())} trees and has {trees}"
    elif b"\nend of trees" not in content or (b"\nparameters:" in content and b"\nend of parameters" not in content):
        wrong = "its end is missing"
    elif b"\npandas_categorical:" in content:
        try:
            json.loads(content.rpartition(b"\npandas_categorical:")[2])
        except ValueError:
            wrong = "its last line is cut off"
    if wrong:
        raise ModelError(
            f"{name!r} is no whole LightGBM file: {wrong}",
            hint="copy it again, or save it again with Booster.save_model",
        )


def describe_booster(booster: Any, rounds: int = 0) -> Boosted:
    """The model that a Booster holds, as ONNX will compute it.

    Raises:
        ModelError: it uses what cannot be converted; all such uses are named.
    """
    have = booster.current_iteration()
    if rounds > have:
        raise ModelError(f"{rounds} rounds are asked for, the model has {have}", hint=f"with.rounds = {have}")
    dump = booster.dump_model(num_iteration=rounds or have)
    words = str(dump.get("objective", "")).split()
    objective, settings = (words[0] if words else ""), dict(word.partition(":")[::2] for word in words[1:])
    _refuse(dump, objective)
    targets = int(dump["num_tree_per_iteration"])
    link: Link = _LINKS[objective]
    if objective == "regression" and "sqrt" in settings:
        link = "square"
    # A random forest is the mean of its trees, taken before the link function.
    averaged = bool(dump.get("average_output"))
    table = _trees(dump, targets, 1 / (rounds or have) if averaged else 1.0)
    return Boosted(
        body=table, features=int(dump["max_feature_idx"]) + 1, base=(0.0,) * targets, link=link,
        classes=max(targets, 2) if objective in _CLASSIFIERS else 0,
        scale=float(settings.get("sigmoid", 1.0)) if link == "sigmoid" else 1.0,
        feature_names=tuple(dump["feature_names"]), notes=_notes(dump, rounds, have),
    )  # fmt: skip


def _notes(dump: Mapping[str, Any], rounds: int, have: int) -> tuple[str, ...]:
    notes = [f"{rounds} of {have} rounds are used, as asked"] if rounds and rounds < have else []
    columns = dump.get("pandas_categorical") or ()
    for number, values in enumerate(columns):
        shown = ", ".join(f"{value!r} is {place}" for place, value in enumerate(values[:8]))
        notes.append(f"category column {number + 1} takes whole numbers: {shown}{', ...' if len(values) > 8 else ''}")
    return tuple(notes)


def _refuse(dump: Mapping[str, Any], objective: str) -> None:
    problems = []
    if objective not in _LINKS:
        problems.append(f"objective {objective or 'of the author'!r}, whose link function is not known")
    if not dump["tree_info"]:
        problems.append("no tree")
    names = dump["feature_names"]
    linear = zero = False
    columns = set()
    for tree in dump["tree_info"]:
        for node in _walk(tree["tree_structure"]):
            linear |= "leaf_coeff" in node or "leaf_features" in node
            if node.get("missing_type") == "Zero" and not _zero_needs_nothing(node):
                zero = True
                columns.add(names[node["split_feature"]])
    if linear:
        problems.append("linear functions at its leaves (linear_tree)")
    if zero:
        problems.append(f"zeros that count as missing (zero_as_missing) at {', '.join(sorted(columns))}")
    if problems:
        raise ModelError(f"LightGBM model with {'; '.join(problems)} cannot be converted", hint="train without that")


def _zero_needs_nothing(node: Mapping[str, Any]) -> bool:
    """Whether zeros go the same way by the threshold as by being missing."""
    threshold = float(node["threshold"])
    return threshold >= _ZERO if node["default_left"] else threshold < -_ZERO


def _walk(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if "split_feature" in node:
            waiting += [node["left_child"], node["right_child"]]


def _trees(dump: Mapping[str, Any], targets: int, scale: float) -> TreeTable:
    table = TreeTable()
    for number, tree in enumerate(dump["tree_info"]):
        _Tree(table, number, number % targets, scale).add(tree["tree_structure"])
    return table


class _Tree:
    """One tree on its way into the table; nodes are numbered as they are met."""

    def __init__(self, table: TreeTable, tree: int, target: int, scale: float) -> None:
        self._table, self._tree, self._target, self._scale = table, tree, target, scale
        self._count = 1

    def add(self, root: Mapping[str, Any]) -> None:
        waiting = [(0, root)]
        while waiting:
            node, content = waiting.pop()
            if "split_feature" not in content:
                weight = content["leaf_value"] * self._scale
                self._table.leaf(self._tree, node, target=self._target, weight=weight)
                continue
            left, right = self._count, self._count + 1
            self._count += 2
            waiting += [(left, content["left_child"]), (right, content["right_child"])]
            if content["decision_type"] == "==":
                self._category(node, content, left, right)
            else:
                self._number(node, content, left, right)

    def _number(self, node: int, content: Mapping[str, Any], left: int, right: int) -> None:
        threshold = float(content["threshold"])
        # Only where its split says so is a NaN missing; elsewhere LightGBM takes it for 0 (NumericalDecision).
        missing = content["missing_type"] in ("NaN", "Zero")
        nan_left = bool(content["default_left"]) if missing else threshold >= 0
        self._table.split(
            self._tree, node, feature=content["split_feature"], mode="BRANCH_LEQ", value=_threshold32(threshold),
            true=left, false=right, nan_true=nan_left,
        )  # fmt: skip

    def _category(self, node: int, content: Mapping[str, Any], left: int, right: int) -> None:
        """Left for each of the categories: a chain of comparisons whose true branches meet. NaN goes right."""
        values = [float(value) for value in str(content["threshold"]).split("||")]
        for place, value in enumerate(values):
            last = place + 1 == len(values)
            following = right if last else self._count
            self._count += 0 if last else 1
            self._table.split(
                self._tree, node, feature=content["split_feature"], mode="BRANCH_EQ", value=value, true=left,
                false=following, nan_true=False,
            )  # fmt: skip
            node = following


def _threshold32(value: float) -> float:
    """`floor32`, and around 0, where x counts as 0, the end of that range."""
    if 0 <= value < _ZERO:
        return _ZERO
    return floor32(math.nextafter(-_ZERO, -1.0) if -_ZERO <= value < 0 else value)
