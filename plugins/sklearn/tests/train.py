"""Trains the catalogue's models: `python train.py FOLDER`, by the Python of the plugin's environment.

For each case FOLDER/NAME/model.SUFFIX and FOLDER/NAME/sample.npz, whose arrays are named as the converted model's
inputs, or `*` for the only one.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
import sklearn.base
import skops.io
import xgboost as xgb
from catalogue import BY_NAME, CASES
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

RNG = np.random.default_rng(4)
ROWS = 400
X = RNG.standard_normal((ROWS, 5)).astype("f4")
MISSING = np.where(RNG.random(X.shape) < 0.1, np.float32(np.nan), X)
TARGET = np.abs(2 * X[:, 0] + X[:, 1] ** 2).astype("f4") + np.float32(0.1)
TWO = (2 * X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
TEXT = np.array(["no", "yes"])[TWO]
COLOUR = RNG.choice(["red", "green", "blue"], ROWS)
TOWN = np.array([f"town {number}" for number in RNG.integers(0, 60, ROWS)])
SIZE = RNG.integers(0, 4, ROWS)
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "colour": COLOUR, "size": SIZE})
FEEDS = {"a": X[:, :1], "b": X[:, 1:2], "colour": COLOUR[:, None], "size": SIZE[:, None]}
TOWNS = FRAME.assign(town=TOWN)
TOWN_FEEDS = {**FEEDS, "town": TOWN[:, None]}
GROUPS = [100] * 4


class Word(FunctionTransformer):
    """A class of the author's own."""


def columns(last: Any, labels: Any, frame: Any = FRAME) -> Pipeline:
    numbers = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    names = ["colour", "size", *(["town"] if "town" in frame else [])]
    words = OneHotEncoder(handle_unknown="ignore")
    chosen = ColumnTransformer([("numbers", numbers, ["a", "b"]), ("words", words, names)])
    return Pipeline([("columns", chosen), ("last", last)]).fit(frame, labels)


def sklearn_models() -> dict[str, Any]:
    """Model, or model and feeds, by name."""
    base = [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3, random_state=0))]
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    xgb_settings: dict[str, Any] = {"n_estimators": 20, "n_jobs": 1}
    lgb_settings: dict[str, Any] = {"n_estimators": 20, "verbosity": -1, "n_jobs": 1}
    late = {"eval_set": [(X[200:], TWO[200:])]}
    halves = np.stack([SIZE + 0.5, SIZE * 1.0], axis=1).astype("f4")
    # Some are no category, and are nearest to one, or are one when cut off.
    near = np.where(np.arange(ROWS)[:, None] % 3 == 0, np.float32(0.25), np.float32(0))
    numbers = OneHotEncoder(handle_unknown="ignore")
    table = np.stack([COLOUR, TOWN], axis=1).astype(object)
    by_place = ColumnTransformer([("s", StandardScaler(), [0, 1]), ("m", MinMaxScaler(), [3])], remainder="passthrough")
    by_name = ColumnTransformer([("s", StandardScaler(), ["a"]), ("m", MinMaxScaler(), ["c", "b"])])
    return {
        "linear": LinearRegression().fit(X, TARGET),
        "ridge_two_targets": Ridge().fit(X, X[:, :2]),
        "logistic": LogisticRegression().fit(X, TWO * 5 - 3),
        "logistic_three": LogisticRegression().fit(X, THREE),
        "logistic_text": LogisticRegression().fit(X, TEXT),
        "logistic_numbers": LogisticRegression().fit(X, TEXT),
        "float_labels": LogisticRegression().fit(X, TWO + 1.0),
        "float_labels_numbers": LogisticRegression().fit(X, TWO + 1.0),
        "bool_labels": LogisticRegression().fit(X, TWO == 1),
        "forest": RandomForestClassifier(30, random_state=0).fit(X, TEXT),
        "forest_regressor": RandomForestRegressor(30, random_state=0).fit(X, TARGET),
        "forest_missing": (RandomForestClassifier(30, random_state=0).fit(MISSING, THREE), MISSING),
        "gradient_boosting": GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, THREE),
        "histogram_classifier": (HistGradientBoostingClassifier(max_iter=20).fit(MISSING, THREE), MISSING),
        "histogram_regressor": (HistGradientBoostingRegressor(max_iter=20).fit(MISSING, TARGET), MISSING),
        "histogram_poisson": HistGradientBoostingRegressor(loss="poisson", max_iter=20).fit(X, TARGET),
        "decision_tree": DecisionTreeClassifier(random_state=0).fit(X, TWO),
        "svc": make_pipeline(StandardScaler(), SVC()).fit(X, TEXT),
        "svc_probability": SVC(probability=True, random_state=0).fit(X, THREE),
        "linear_svc": LinearSVC(random_state=0).fit(X, TWO),
        "svr": SVR().fit(X, TARGET),
        "mlp": make_pipeline(StandardScaler(), MLPClassifier((16, 8), max_iter=60, random_state=0)).fit(X, THREE),
        "mlp_regressor": MLPRegressor(hidden_layer_sizes=(16,), max_iter=60, random_state=0).fit(X, TARGET),
        "kmeans": KMeans(4, random_state=0).fit(X),
        "pca": PCA(3).fit(X),
        "knn": KNeighborsClassifier().fit(X, TWO),
        "naive_bayes": GaussianNB().fit(X, THREE),
        "discriminant": LinearDiscriminantAnalysis().fit(X, TWO),
        "discriminant_three": LinearDiscriminantAnalysis().fit(X, THREE),
        "isolation_forest": IsolationForest(n_estimators=20, random_state=0).fit(X),
        "mixture": GaussianMixture(3, random_state=0).fit(X),
        "voting_hard": VotingClassifier(base).fit(X, TEXT),
        "voting_soft": VotingClassifier(base, voting="soft").fit(X, THREE),
        "stacking": StackingClassifier(base).fit(X, TWO),
        "calibrated": CalibratedClassifierCV(LinearSVC(random_state=0)).fit(X, TWO),
        "search": GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1.0]}).fit(X, TWO),
        "scaler": StandardScaler().fit(X),
        "columns": (columns(LogisticRegression(), TEXT), FEEDS),
        "columns_forest": (columns(RandomForestClassifier(20, random_state=0), TWO), FEEDS),
        "columns_xgboost": (columns(xgb.XGBRegressor(**xgb_settings), TARGET), FEEDS),
        "columns_sparse": (columns(xgb.XGBClassifier(**xgb_settings), TWO, TOWNS), TOWN_FEEDS),
        "columns_sparse_lightgbm": (columns(lgb.LGBMClassifier(**lgb_settings), TEXT, TOWNS), TOWN_FEEDS),
        "columns_by_place": make_pipeline(by_place, LogisticRegression()).fit(X, TWO),
        "columns_one_table": (make_pipeline(by_name, LogisticRegression()).fit(frame[["a", "b", "c"]], TWO), X[:, :3]),
        "text_table": (make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table, TWO), table.astype(str)),
        "fraction_categories": (make_pipeline(numbers, LogisticRegression()).fit(halves, SIZE > 1), halves + near),
        "frame": make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, TWO),
        "label_column": LogisticRegression().fit(frame.rename(columns={"a": "label"}), TWO),
        "fixed_batch": LogisticRegression().fit(X, TWO),
        "doubles": (make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TWO), X.astype("f8")),
        "min_max_tree": make_pipeline(MinMaxScaler(), xgb.XGBRegressor(**xgb_settings)).fit(X, TARGET),
        "knn_imputer": (KNNImputer().fit(MISSING), MISSING),
        "xgb_class": (xgb.XGBClassifier(**xgb_settings).fit(MISSING, THREE), MISSING),
        "xgb_ranker": xgb.XGBRanker(**xgb_settings).fit(X, TWO, group=GROUPS),
        "xgb_early": xgb.XGBClassifier(n_estimators=80, early_stopping_rounds=2, n_jobs=1).fit(
            X[:200], TWO[:200], verbose=False, **late
        ),
        "lgbm_class": (lgb.LGBMClassifier(**lgb_settings).fit(MISSING, TEXT), MISSING),
        "lgbm_early": lgb.LGBMClassifier(n_estimators=80, verbosity=-1, n_jobs=1).fit(
            X[:200], TWO[:200], callbacks=[lgb.early_stopping(2, verbose=False)], **late
        ),
        "skops": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, TEXT),
        "skops_allowed": RandomForestClassifier(20, random_state=0).fit(X, TEXT),
        **refused_models(frame),
    }


def refused_models(frame: pd.DataFrame) -> dict[str, Any]:
    vote = VotingClassifier(
        [("one", LogisticRegression()), ("two", make_pipeline(FunctionTransformer(), LogisticRegression()))]
    )
    vote.estimators[1] = ("two", Pipeline([("word", Word()), ("last", LogisticRegression())]))
    own = Pipeline([("abs", FunctionTransformer(np.abs)), ("vote", vote)]).fit(X, TWO)
    coloured = FRAME.assign(colour=FRAME.colour.astype("category")).rename(columns={"colour": "color"})
    words = [" ".join(row) for row in RNG.choice(["red", "green", "blue"], (ROWS, 4))]
    return {
        "refused_function": own,
        "refused_words": make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, TWO),
        "refused_target": TransformedTargetRegressor(LinearRegression()).fit(X, TARGET),
        "refused_one_vs_one": OneVsOneClassifier(LogisticRegression()).fit(X, THREE),
        "refused_labels": RandomForestClassifier(3).fit(X, np.stack([TWO, THREE], axis=1)),
        "refused_unfitted": LogisticRegression(),
        "refused_no_model": {"weights": X},
        "refused_middle": make_pipeline(LinearDiscriminantAnalysis(), LogisticRegression()).fit(X, TWO),
        "refused_missing": xgb.XGBRegressor(n_estimators=3, missing=-1).fit(X, TARGET),
        "refused_category": xgb.XGBClassifier(n_estimators=3, enable_categorical=True).fit(coloured, TWO),
        "refused_version": LogisticRegression().fit(X, TWO),
        "other_version": LogisticRegression().fit(X, TWO),
        "refused_skops": RandomForestClassifier(3, random_state=0).fit(X, TEXT),
        "refused_pickle": LogisticRegression().fit(X, TWO),
        "refused_width": LogisticRegression().fit(X, TWO),
    }


def xgboost_models() -> dict[str, Any]:
    def booster(objective: str, rounds: int = 20, rows: Any = MISSING, **settings: Any) -> xgb.Booster:
        kind = objective.partition(":")[0]
        labels = {"multi": THREE, "binary": TWO, "rank": TWO}.get(kind, TWO if objective == "reg:logistic" else TARGET)
        data = xgb.DMatrix(rows, labels)
        if kind == "rank":
            data.set_group(GROUPS)
        if objective == "survival:aft":
            data.set_float_info("label_lower_bound", TARGET)
            data.set_float_info("label_upper_bound", TARGET)
        if objective == "reg:quantileerror":
            settings["quantile_alpha"] = [0.1, 0.5, 0.9]
        if kind == "multi":
            settings["num_class"] = 3
        fixed = {"objective": objective, "verbosity": 0, "max_depth": 4, "nthread": 1, "seed": 0}
        return xgb.train({**fixed, **settings}, data, rounds)

    from catalogue import XGBOOST

    found: dict[str, Any] = {f"xgboost_{name.replace(':', '_')}": (booster(name), MISSING) for name in XGBOOST}
    early = xgb.XGBClassifier(n_estimators=80, early_stopping_rounds=2, n_jobs=1)
    early.fit(X[:200], TWO[:200], eval_set=[(X[200:], TWO[200:])], verbose=False)
    coloured = xgb.DMatrix(FRAME.assign(colour=FRAME.colour.astype("category")), TWO, enable_categorical=True)
    labels = xgb.DMatrix(X, np.stack([TWO, 1 - TWO], axis=1))
    found |= {
        "xgboost_dart": (booster("binary:logistic", booster="dart", rate_drop=0.5), MISSING),
        "xgboost_gblinear": (booster("binary:logistic", booster="gblinear"), MISSING),
        "xgboost_gblinear_three": (booster("multi:softprob", booster="gblinear"), MISSING),
        "xgboost_parallel": (booster("multi:softprob", num_parallel_tree=3, subsample=0.5), MISSING),
        "xgboost_best": early.get_booster(),
        "xgboost_missing": (booster("reg:squarederror"), np.full((3, 5), np.nan, "f4")),
        "xgboost_rounds": (booster("multi:softprob"), MISSING),
        "xgboost_refused_category": xgb.train({"objective": "binary:logistic"}, coloured, 3),
        "xgboost_refused_labels": xgb.train({"objective": "binary:logistic"}, labels, 3),
        "xgboost_refused_rounds": booster("reg:squarederror"),
    }
    return found


def lightgbm_models() -> dict[str, Any]:
    def booster(objective: Any, rows: Any = MISSING, rounds: int = 20, target: Any = None, **settings: Any) -> Any:
        name = str(objective)
        labels = TWO if name.startswith(("binary", "cross", "lambda", "rank")) else TARGET
        if name.startswith("multi"):
            labels, settings = THREE, {"num_class": 3, **settings}
        labels = labels if target is None else target
        group = GROUPS if name.startswith(("lambda", "rank")) else None
        fixed = {"objective": objective, "verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True}
        columns = settings.pop("columns", "auto")
        data = lgb.Dataset(rows, labels, group=group, categorical_feature=columns)
        return lgb.train({**fixed, **settings}, data, rounds)

    from catalogue import LIGHTGBM

    found: dict[str, Any] = {f"lightgbm_{name}": (booster(name), MISSING) for name in LIGHTGBM}
    forest = {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1}
    category = MISSING.copy()
    category[:, 2] = RNG.integers(0, 12, ROWS)
    category[::9, 2] = np.nan
    effect = TARGET + np.isin(category[:, 2], [1, 5, 7])
    grid = (np.round(X * 10) / 10).astype("f4")
    dense = booster("regression", grid, 100, grid[:, 0] * 3 + grid[:, 1])
    found |= {
        "lightgbm_rf": (booster("regression", **forest), MISSING),
        "lightgbm_rf_binary": (booster("binary", **forest), MISSING),
        "lightgbm_dart": (booster("binary", boosting="dart"), MISSING),
        "lightgbm_sqrt": (booster("regression", reg_sqrt=True), MISSING),
        "lightgbm_sigmoid": (booster("multiclassova", sigmoid=2.0), MISSING),
        "lightgbm_category": (
            booster("regression", category, target=effect, columns=[2], min_data_per_group=5, cat_smooth=1), category
        ),
        "lightgbm_no_missing": (booster("regression", use_missing=False), MISSING),
        "lightgbm_on_thresholds": (dense, around_thresholds(dense)),
        "lightgbm_rounds": (booster("multiclass"), MISSING),
        "lightgbm_refused_linear": booster("regression", X, linear_tree=True),
        "lightgbm_refused_zero": booster("regression", zero_as_missing=True),
        "lightgbm_refused_custom": booster(own_objective, X),
    }  # fmt: skip
    return found


def own_objective(prediction: Any, data: Any) -> tuple[Any, Any]:
    return prediction - data.get_label(), np.ones_like(prediction)


def around_thresholds(booster: Any) -> Any:
    """Rows with each threshold, rounded to float32 and one step beside it: where rounding it wrongly shows."""
    found = []

    def walk(node: dict[str, Any]) -> None:
        if "threshold" in node:
            near = np.float32(node["threshold"])
            for value in (near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))):
                row = np.zeros(5, "f4")
                row[node["split_feature"]] = value
                found.append(row)
            walk(node["left_child"])
            walk(node["right_child"])

    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    return np.unique(np.array(found), axis=0)


def save(folder: Path, name: str, model: Any, feeds: Any) -> None:
    case = BY_NAME[name]
    place = folder / name
    place.mkdir(parents=True)
    path = place / f"model{case.suffix}"
    if case.suffix == ".joblib":
        version = sklearn.base.__version__
        # What a model says of the version that saved it.
        sklearn.base.__version__ = "1.2.2" if name.endswith("_version") else version
        joblib.dump(model, path)
        sklearn.base.__version__ = version
    elif case.suffix == ".skops":
        skops.io.dump(model, path)
    else:
        model.save_model(path)
    np.savez(place / "sample.npz", **(feeds if isinstance(feeds, dict) else {"*": feeds}))


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    made = {**sklearn_models(), **xgboost_models(), **lightgbm_models()}
    missing = {case.name for case in CASES} ^ made.keys()
    assert not missing, missing
    for name, entry in made.items():
        model, feeds = entry if isinstance(entry, tuple) else (entry, X)
        save(folder, name, model, feeds)


if __name__ == "__main__":
    main()
