"""XGBoost's own files: JSON and UBJSON, read by XGBoost itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, SniffRequest, SniffResult
from sdkpack_sklearn.ensemble import Boosted, Linear, Link, TreeTable
from sdkpack_sklearn.native import NativeConverter
from sdkpack_sklearn.params import XGBoostParams
from sdkpack_sklearn.ubjson import check_ubjson

__all__ = ["XGBoostConverter", "describe_booster", "kept_rounds"]

_HEAD_BYTES: Final = 4096
_PRETTY: Final = re.compile(rb'^\s*\{\s*"(learner|version)"\s*:')

_LINKS: Final[Mapping[str, tuple[Link, str]]] = {
    "reg:squarederror": ("identity", ""),
    "reg:squaredlogerror": ("identity", ""),
    "reg:pseudohubererror": ("identity", ""),
    "reg:absoluteerror": ("identity", ""),
    "reg:quantileerror": ("identity", ""),
    "reg:logistic": ("sigmoid", "logit"),
    "reg:gamma": ("exp", "log"),
    "reg:tweedie": ("exp", "log"),
    "count:poisson": ("exp", "log"),
    "survival:cox": ("exp", "log"),
    "survival:aft": ("exp", "log"),
    "binary:logistic": ("sigmoid", "logit"),
    "binary:logitraw": ("identity", ""),
    "binary:hinge": ("hinge", ""),
    "multi:softprob": ("softmax", ""),
    "multi:softmax": ("softmax", ""),
    "rank:pairwise": ("identity", ""),
    "rank:ndcg": ("identity", ""),
    "rank:map": ("identity", ""),
}
"""Objective -> what makes an answer of a margin, and what makes a margin of `base_score`; as in XGBoost's parameters
page and `PredTransform` and `ProbToMargin` of its objectives."""
_CLASSIFIERS: Final = frozenset({"binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax"})


class XGBoostConverter(NativeConverter):
    """XGBoost to ONNX, tree by tree."""

    library = "xgboost-cpu"

    def sniff(self, request: SniffRequest) -> SniffResult:
        with request.source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        # Written by another hand, with spaces or in another order; what it is decides reading it.
        if _PRETTY.match(head) and (b'"learner"' in head or b'"version"' in head):
            return SniffResult(score=0.7, reason="JSON that begins like an XGBoost model")
        return SniffResult(score=0.0)

    def load(self, request: ConvertRequest) -> Any:
        import xgboost

        source = request.source
        content = source.read_bytes()
        _check_whole(content, source.name)
        booster = xgboost.Booster({"nthread": 1})
        try:
            # From memory: by name XGBoost would decide by the suffix what the file is.
            booster.load_model(bytearray(content))
        except (xgboost.core.XGBoostError, ValueError, TypeError, UnicodeDecodeError) as error:
            reason = str(error).strip().splitlines()
            raise ModelError(
                f"XGBoost cannot read {source.name!r}: {_reason(reason)}",
                hint="save it again with Booster.save_model('model.ubj')",
            ) from error
        return booster

    def describe(self, booster: Any, request: ConvertRequest) -> Boosted:
        return describe_booster(booster, _rounds(request))

    def predict(self, booster: Any, x: Any, request: ConvertRequest) -> tuple[Any, Any]:
        import numpy as np
        import xgboost

        learner = json.loads(booster.save_raw("json"))["learner"]
        rounds, _ = kept_rounds(booster, learner, _rounds(request))
        booster.feature_names = None
        if learner["objective"]["name"] == "multi:softmax":
            # Of the two objectives, which train alike, this one tells the class only.
            booster.set_param({"objective": "multi:softprob"})
        data = xgboost.DMatrix(np.asarray(x, np.float32), nthread=1)
        span = (0, rounds)
        value = booster.predict(data, iteration_range=span)
        margin = booster.predict(data, iteration_range=span, output_margin=True)
        return value.reshape(len(x), -1), margin.reshape(len(x), -1)


def _rounds(request: ConvertRequest) -> int:
    return request.params.rounds if isinstance(request.params, XGBoostParams) else 0


def _check_whole(content: bytes, name: str) -> None:
    binary = content.startswith((b"{L", b"{i", b"{l", b"{U", b"{I", b"{#", b"{$"))
    try:
        if binary:
            check_ubjson(content)
            return
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{name!r} is no whole XGBoost file: {error}", hint="copy it again, or save it again by Booster.save_model"
        ) from error
    if not isinstance(document, dict) or "learner" not in document:
        raise ModelError(
            f"{name!r} is JSON without an XGBoost model in it",
            hint="a dump (Booster.dump_model) cannot be loaded again: save the model with Booster.save_model",
        )


def _reason(lines: Sequence[str]) -> str:
    # "[TIME] FILE.cc:LINE: Expecting ..."
    return re.sub(r"^\[[\d:]+\]\s+\S+:\d+:\s*", "", lines[0])[:300] if lines else "no reason given"


def describe_booster(booster: Any, rounds: int = 0, *, best_only: bool = False) -> Boosted:
    """The model that a Booster holds, as ONNX will compute it.

    Args:
        booster: an `xgboost.Booster`.
        rounds: how many count; 0: as many as its class would use.
        best_only: that class is one of those for scikit-learn.

    Raises:
        ModelError: it uses what cannot be converted; all such uses are named.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    sizes, objective = learner["learner_model_param"], learner["objective"]["name"]
    kept, notes = kept_rounds(booster, learner, rounds, best_only)
    targets = max(int(sizes["num_class"]), int(sizes.get("num_target", 1)), 1)
    _refuse(learner, objective)
    link, inverse = _LINKS[objective]
    gradient = learner["gradient_booster"]
    body: TreeTable | Linear
    base = _margins(sizes["base_score"], targets, inverse)
    if gradient["name"] == "gblinear":
        body, bias = _linear(gradient["model"]["weights"], int(sizes["num_feature"]), targets)
        # Of a base score for each class, linear boosters add the first one to all (GBLinear::PredictBatchInternal).
        base = tuple(base[0] + one for one in bias)
    else:
        body = _trees(gradient, kept)
    classes = max(int(sizes["num_class"]), 2) if objective in _CLASSIFIERS else 0
    return Boosted(
        body=body, features=int(sizes["num_feature"]), base=base, link=link, classes=classes,
        feature_names=tuple(learner.get("feature_names", ())), notes=notes,
    )  # fmt: skip


def kept_rounds(
    booster: Any, learner: Mapping[str, Any], asked: int, best_only: bool = False
) -> tuple[int, tuple[str, ...]]:
    """How many rounds count, and what the author should know of that.

    A model saved by XGBClassifier and its like is used up to its best round (XGBModel.predict); a Booster's predict
    uses all of them.

    Raises:
        ModelError: it has fewer rounds than asked for.
    """
    have = int(booster.num_boosted_rounds())
    if asked:
        if asked > have:
            raise ModelError(f"{asked} rounds are asked for, the model has {have}", hint=f"with.rounds = {have}")
        return asked, (f"{asked} of {have} rounds are used, as asked",)
    attributes = learner.get("attributes", {})
    best = int(attributes.get("best_iteration", have - 1)) + 1
    if best >= have or learner["gradient_booster"]["name"] == "gblinear":
        return have, ()
    if best_only or "scikit_learn" in attributes:
        return best, (f"{best} of {have} rounds are used: the best one, as XGBoost's scikit-learn classes do",)
    return have, (
        f"all {have} rounds are used, as Booster.predict does; the best one was {best}: with.rounds = {best}",
    )


def _refuse(learner: Mapping[str, Any], objective: str) -> None:
    problems = []
    if objective not in _LINKS:
        problems.append(f"objective {objective!r}, whose link function is not known")
    gradient = learner["gradient_booster"]
    model = gradient.get("gbtree", gradient)["model"]
    trees = model.get("trees", [])
    if gradient["name"] != "gblinear" and not trees:
        problems.append("no tree")
    if objective in _CLASSIFIERS and int(learner["learner_model_param"].get("num_target", 1)) > 1:
        problems.append("several labels at once")
    if any(int(tree["tree_param"].get("size_leaf_vector", 1)) > 1 for tree in trees):
        problems.append("trees with several values at a leaf (multi_strategy = 'multi_output_tree')")
    names = learner.get("feature_names") or [f"f{n}" for n in range(int(learner["learner_model_param"]["num_feature"]))]
    found = {name for name, kind in zip(names, learner.get("feature_types") or (), strict=False) if kind == "c"}
    found |= {
        names[tree["split_indices"][node]]
        for tree in trees for node, kind in enumerate(tree["split_type"]) if kind and tree["left_children"][node] != -1
    }  # fmt: skip
    if found:
        problems.append(f"categories at {', '.join(sorted(found))}")
    if problems:
        raise ModelError(
            f"XGBoost model with {'; '.join(problems)} cannot be converted",
            hint="train without that: encode categories as numbers or one-hot columns",
        )


def _margins(text: str, targets: int, inverse: str) -> tuple[float, ...]:
    # One number up to XGBoost 3.0, a list of them from 3.1 on, as text either way.
    values = [float(value) for value in text.strip("[]").split(",")]
    if len(values) == 1:
        values = values * targets
    if inverse == "logit":
        return tuple(-math.log(1.0 / value - 1.0) for value in values)
    return tuple(math.log(value) for value in values) if inverse == "log" else tuple(values)


def _linear(weights: Sequence[float], features: int, targets: int) -> tuple[Linear, tuple[float, ...]]:
    import numpy as np

    # Row by row a feature's weights for each target, the biases last.
    table = np.array(weights, np.float32).reshape(features + 1, targets)
    return Linear(weights=table[:-1]), tuple(float(value) for value in table[-1])


def _trees(gradient: Mapping[str, Any], rounds: int) -> TreeTable:
    model = gradient.get("gbtree", gradient)["model"]
    drops = gradient.get("weight_drop") or [1.0] * len(model["trees"])
    table = TreeTable()
    for number, tree in enumerate(model["trees"][: int(model["iteration_indptr"][rounds])]):
        target = model["tree_info"][number]
        rows = zip(
            tree["left_children"], tree["right_children"], tree["split_indices"], tree["split_conditions"],
            tree["default_left"], strict=True,
        )  # fmt: skip
        reachable = _reachable(tree)
        for node, (left, right, feature, value, default_left) in enumerate(rows):
            if node not in reachable:
                continue
            if left == -1:
                table.leaf(number, node, target=target, weight=value * drops[number])
            else:
                table.split(
                    number, node, feature=feature, mode="BRANCH_LT", value=value, true=left, false=right,
                    nan_true=bool(default_left),
                )  # fmt: skip
    return table


def _reachable(tree: Mapping[str, Any]) -> set[int]:
    """Pruned nodes stay in the file."""
    found, waiting = set(), [0]
    while waiting:
        node = waiting.pop()
        if node in found:
            raise ModelError("a tree of the XGBoost model leads back into itself", hint="save the model again")
        found.add(node)
        if tree["left_children"][node] != -1:
            waiting += [tree["left_children"][node], tree["right_children"][node]]
    return found
