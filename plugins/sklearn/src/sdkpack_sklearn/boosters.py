"""Classes that skl2onnx does not know, or gets wrong, made known to it by this plugin's own trees.

XGBoost's and LightGBM's; scikit-learn's HistGradientBoosting, on which skl2onnx 1.20.0 fails beside onnx 1.23; and
LinearDiscriminantAnalysis, whose probabilities of two classes it gets wrong (by 0.15 in the tests' model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdkpack.errors import ModelError
from sdkpack_sklearn import lgbm, xgb
from sdkpack_sklearn.ensemble import Boosted, Linear, Link, TreeTable, emit, emit_classes, floor32

__all__ = ["ContainerSink", "boosted_of", "register"]


def register() -> None:
    """Tells skl2onnx of these classes; once a process is enough, more do no harm."""
    import lightgbm
    import xgboost
    from skl2onnx import update_registered_converter
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    classifiers = (
        xgboost.XGBClassifier, xgboost.XGBRFClassifier, lightgbm.LGBMClassifier, HistGradientBoostingClassifier,
        LinearDiscriminantAnalysis,
    )  # fmt: skip
    others = (
        xgboost.XGBRegressor, xgboost.XGBRFRegressor, xgboost.XGBRanker, lightgbm.LGBMRegressor, lightgbm.LGBMRanker,
        HistGradientBoostingRegressor,
    )  # fmt: skip
    for kind in classifiers:
        options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
        update_registered_converter(kind, f"Sdkpack{kind.__name__}", _classifier_shapes, _convert, options=options)
    for kind in others:
        update_registered_converter(kind, f"Sdkpack{kind.__name__}", _regressor_shapes, _convert)


def boosted_of(model: Any) -> Boosted:
    """What a fitted model of one of these classes computes.

    Raises:
        ModelError: it uses what cannot be converted.
    """
    if hasattr(model, "_predictors"):
        return _histogram(model)
    if hasattr(model, "xbar_"):
        return _discriminant(model)
    if hasattr(model, "booster_"):
        if model.booster_.pandas_categorical:
            raise ModelError(
                f"{type(model).__name__} was trained on columns of pandas' type category",
                hint="save it by booster_.save_model('model.txt'): there a category is a whole number",
            )
        return lgbm.describe_booster(model.booster_, max(int(model.booster_.best_iteration), 0))
    missing = getattr(model, "missing", None)
    if missing is not None and missing == missing:
        raise ModelError(
            f"{type(model).__name__} takes {missing} for a missing value, ONNX only NaN",
            hint="train with missing = nan, and put NaN where a value is missing",
        )
    found = xgb.describe_booster(model.get_booster(), best_only=True)
    if hasattr(model, "classes_") and not found.classes:
        raise ModelError(
            f"{type(model).__name__} with objective {model.objective!r} has no probabilities",
            hint="train with binary:logistic, which has the same trees",
        )
    return found


def _histogram(model: Any) -> Boosted:
    if model.is_categorical_ is not None:
        raise ModelError(
            f"{type(model).__name__} with categorical features cannot be converted",
            hint="train without categorical_features: encode them by a OneHotEncoder or OrdinalEncoder",
        )
    table = TreeTable()
    for number, predictor in enumerate(one for rounds in model._predictors for one in rounds):
        for place, node in enumerate(predictor.nodes):
            if node["is_leaf"]:
                target = number % model.n_trees_per_iteration_
                table.leaf(number, place, target=target, weight=float(node["value"]))
            else:
                table.split(
                    number, place, feature=int(node["feature_idx"]), mode="BRANCH_LEQ",
                    value=floor32(float(node["num_threshold"])), true=int(node["left"]), false=int(node["right"]),
                    nan_true=bool(node["missing_go_to_left"]),
                )  # fmt: skip
    links: dict[str, Link] = {
        "IdentityLink": "identity", "LogLink": "exp", "LogitLink": "sigmoid", "MultinomialLogit": "softmax",
    }  # fmt: skip
    return Boosted(
        body=table, features=model.n_features_in_, link=links[type(model._loss.link).__name__],
        base=tuple(float(value) for value in model._baseline_prediction.ravel()),
        classes=len(getattr(model, "classes_", ())),
    )  # fmt: skip


def _discriminant(model: Any) -> Boosted:
    import numpy as np

    return Boosted(
        body=Linear(weights=model.coef_.T.astype(np.float32)), features=model.n_features_in_,
        base=tuple(float(value) for value in model.intercept_),
        link="sigmoid" if len(model.classes_) == 2 else "softmax", classes=len(model.classes_),
    )  # fmt: skip


class ContainerSink:
    """Nodes for skl2onnx."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def node(self, operator: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        name = output or str(self._scope.get_unique_variable_name(operator.lower()))
        version = attributes.pop("op_version", 3 if domain else None)
        self._container.add_node(
            operator, list(inputs), [name], op_domain=domain, op_version=version,
            name=self._scope.get_unique_operator_name(operator), **attributes,
        )  # fmt: skip
        return name

    def constant(self, values: Any) -> str:
        from onnx import helper

        name = str(self._scope.get_unique_variable_name("constant"))
        kind = 8 if values.dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(values.dtype)
        content = [str(value) for value in values.ravel()] if kind == 8 else values.ravel().tolist()
        self._container.add_initializer(name, kind, list(values.shape), content)
        return name


def _convert(scope: Any, operator: Any, container: Any) -> None:
    import numpy as np

    model = operator.raw_operator
    boosted = boosted_of(model)
    sink = ContainerSink(scope, container)
    columns = [sink.node("Cast", [variable.full_name], to=1) for variable in operator.inputs]
    x = columns[0] if len(columns) == 1 else sink.node("Concat", columns, axis=1)
    if getattr(model, "sdkpack_zero_is_missing", False):
        zero = sink.node("Equal", [x, sink.constant(np.zeros((), np.float32))])
        x = sink.node("Where", [zero, sink.constant(np.array(np.nan, np.float32)), x])
    value = emit(sink, boosted, x)
    names = [variable.full_name for variable in operator.outputs]
    if len(names) == 1:
        sink.node("Identity", [value], names[0])
        return
    classes = np.asarray(model.classes_)
    plain = np.arange(len(classes))
    same = classes.dtype.kind in "iu" and np.array_equal(classes, plain)
    labels = None if same else classes if classes.dtype.kind in "OU" else classes.astype(np.int64)
    emit_classes(sink, boosted, value, labels, *names)


def _classifier_shapes(operator: Any) -> None:
    import numpy as np
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    batch = operator.inputs[0].get_first_dimension()
    classes = np.asarray(operator.raw_operator.classes_)
    label = StringTensorType if classes.dtype.kind in "OU" else Int64TensorType
    operator.outputs[0].type = label([batch])
    operator.outputs[1].type = FloatTensorType([batch, len(classes)])


def _regressor_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    targets = len(boosted_of(operator.raw_operator).base)
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), targets])
