"""The models that the tests train: names and what is asked for. Needs no toolchain, so that tests can be collected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One trained model; `train.py` has a function for each name."""

    name: str
    suffix: str = ".joblib"
    params: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[tuple[str, str, tuple[int | str, ...]], ...] = ()
    """Declared: name, dtype, shape."""
    refused: str = ""
    """A pattern that the refusal must match; empty: it converts."""
    tolerance: float = 1e-5
    allow_code: bool | None = None
    """None: for pickles."""


SKLEARN = (
    "linear", "ridge_two_targets", "logistic", "logistic_three", "logistic_text", "forest", "forest_regressor",
    "forest_missing", "gradient_boosting", "histogram_classifier", "histogram_regressor", "histogram_poisson",
    "decision_tree", "svc", "svc_probability", "linear_svc", "svr", "mlp", "mlp_regressor", "kmeans", "pca", "knn",
    "naive_bayes", "discriminant", "discriminant_three", "isolation_forest", "mixture", "voting_hard", "voting_soft",
    "stacking", "calibrated", "search", "scaler", "columns", "columns_forest", "columns_xgboost", "columns_sparse",
    "columns_sparse_lightgbm", "columns_by_place", "text_table", "fraction_categories", "frame", "label_column",
    "xgb_class", "xgb_ranker",
    "xgb_early", "lgbm_class", "lgbm_early", "bool_labels", "knn_imputer", "min_max_tree",
)  # fmt: skip
XGBOOST = (
    "reg:squarederror", "reg:squaredlogerror", "reg:logistic", "reg:gamma", "reg:tweedie", "reg:absoluteerror",
    "reg:pseudohubererror", "reg:quantileerror", "count:poisson", "survival:cox", "survival:aft", "binary:logistic",
    "binary:logitraw", "binary:hinge", "multi:softprob", "multi:softmax", "rank:ndcg", "rank:pairwise", "rank:map",
)  # fmt: skip
XGBOOST_BOOSTERS = ("dart", "gblinear", "gblinear_three", "parallel", "best", "missing")
LIGHTGBM = (
    "binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda", "regression", "regression_l1",
    "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie", "lambdarank", "rank_xendcg",
)  # fmt: skip
LIGHTGBM_BOOSTERS = ("rf", "rf_binary", "dart", "sqrt", "sigmoid", "category", "no_missing", "on_thresholds")

CASES = (
    *(Case(name) for name in SKLEARN),
    Case("logistic_numbers", params={"labels": "numbers"}),
    Case("float_labels"),
    Case("float_labels_numbers", params={"labels": "numbers"}),
    Case("columns_one_table", inputs=(("T", "float32", ("rows", 3)),)),
    Case("fixed_batch", inputs=(("X", "float32", (400, 5)),)),
    Case("doubles", inputs=(("X", "float64", ("N", 5)),), tolerance=1e-6),
    Case("skops", ".skops"),
    Case("skops_allowed", ".skops", allow_code=True),
    *(Case(f"xgboost_{name.replace(':', '_')}", ".ubj") for name in XGBOOST),
    *(Case(f"xgboost_{name}", ".json") for name in XGBOOST_BOOSTERS),
    Case("xgboost_rounds", ".json", params={"rounds": 3}),
    *(Case(f"lightgbm_{name}", ".txt") for name in LIGHTGBM),
    *(Case(f"lightgbm_{name}", ".txt") for name in LIGHTGBM_BOOSTERS),
    Case("lightgbm_rounds", ".txt", params={"rounds": 3}),
    Case("refused_function", refused="FunctionTransformer at 'abs'.*Word at 'vote.estimators_\\[1\\].word'"),
    Case("refused_words", refused="TfidfVectorizer"),
    Case("refused_target", refused="TransformedTargetRegressor"),
    Case("refused_one_vs_one", refused="OneVsOneClassifier"),
    Case("refused_labels", refused="2 labels for a row"),
    Case("refused_unfitted", refused="not fitted"),
    Case("refused_no_model", refused="no conversion is known for dict"),
    Case("refused_middle", refused="LinearDiscriminantAnalysis at .* as a transformer"),
    Case("refused_missing", refused="takes -1"),
    Case("refused_category", refused="categories at color"),
    Case("refused_width", inputs=(("X", "float32", ("N", 4)),), refused="4 columns, the model takes 5"),
    Case("other_version", params={"any_version": True}),
    Case("refused_version", refused="saved by another scikit-learn than .*: LogisticRegression by 1.2.2"),
    Case("refused_skops", ".skops", refused="sklearn.tree._tree.Tree"),
    Case("refused_pickle", allow_code=False, refused="is a pickle"),
    Case("xgboost_refused_category", ".ubj", refused="categories at colour"),
    Case("xgboost_refused_labels", ".ubj", refused="several labels"),
    Case("xgboost_refused_rounds", ".ubj", params={"rounds": 99}, refused="the model has"),
    Case("lightgbm_refused_linear", ".txt", refused="linear_tree"),
    Case("lightgbm_refused_zero", ".txt", refused="zero_as_missing"),
    Case("lightgbm_refused_custom", ".txt", refused="objective"),
)
BY_NAME = {case.name: case for case in CASES}
