"""Models in models: what scikit-learn's compositions hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sdkpack.errors import ModelError

__all__ = ["check_supported", "final_step", "first_step", "mark_sparse", "parts_of", "unwrapped"]

_HOLDERS: Final = {
    "Pipeline": ("steps",),
    "ColumnTransformer": ("transformers_",),
    "FeatureUnion": ("transformer_list",),
    "VotingClassifier": ("estimators_",),
    "VotingRegressor": ("estimators_",),
    "StackingClassifier": ("estimators_", "final_estimator_"),
    "StackingRegressor": ("estimators_", "final_estimator_"),
    "BaggingClassifier": ("estimators_",),
    "BaggingRegressor": ("estimators_",),
    "AdaBoostClassifier": ("estimators_",),
    "AdaBoostRegressor": ("estimators_",),
    "MultiOutputClassifier": ("estimators_",),
    "MultiOutputRegressor": ("estimators_",),
    "OneVsRestClassifier": ("estimators_",),
}
"""Composition -> where its parts are; only those whose parts skl2onnx converts one by one."""
_WRONG: Final = frozenset({"OneVsOneClassifier", "GaussianProcessClassifier", "CountVectorizer", "TfidfVectorizer"})
"""What skl2onnx 1.20.0 converts to something else, or by an operator that ONNX does not have."""
_HINTS: Final = {
    "OneVsOneClassifier": "train with OneVsRestClassifier",
    "GaussianProcessClassifier": "train with CalibratedClassifierCV, or another classifier",
    "FunctionTransformer": "move its function into the data that the model gets, or into the bundle's pipeline",
    "TransformedTargetRegressor": "convert its regressor_, and undo the transformation in the bundle's pipeline",
    "CountVectorizer": "count words outside of the model",
    "TfidfVectorizer": "count words outside of the model",
    "KBinsDiscretizer": "train with encode = 'onehot-dense'",
    "HashingVectorizer": "count words outside of the model",
    "Booster": "save it in the library's own format: save_model('model.ubj') or save_model('model.txt')",
}


def unwrapped(model: Any) -> Any:
    """A search over settings stands for the best model that it found."""
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    return model


def first_step(model: Any) -> Any:
    """The step of a pipeline that sees the model's own columns; None where `model` is none."""
    for _, step in getattr(model, "steps", ()):
        if step is not None and not isinstance(step, str):
            return step
    return None


def final_step(model: Any) -> Any:
    """The step that gives the answer: the last of a pipeline, else the model itself."""
    steps = [step for _, step in getattr(model, "steps", ()) if step is not None and not isinstance(step, str)]
    return final_step(unwrapped(steps[-1])) if steps else model


def check_supported(model: Any) -> None:
    """
    Raises:
        ModelError: parts that skl2onnx does not know; all of them are named, with where they stand.
    """
    from skl2onnx._supported_operators import sklearn_operator_name_map

    problems, hints = [], []
    for where, part in _parts(model, ""):
        name = type(part).__name__
        own_function = name == "FunctionTransformer" and part.func is not None
        sparse = name == "KBinsDiscretizer" and part.encode == "onehot"
        if type(part) in sklearn_operator_name_map and not (own_function or sparse or name in _WRONG):
            continue
        problems.append(f"{name}{f' at {where!r}' if where else ''}")
        hints += [f"{name}: {_HINTS[name]}"] if name in _HINTS else []
    problems += _misused(model)
    _check_fitted(model)
    if problems:
        module = type(model).__module__.partition(".")[0]
        default = "replace them by estimators of https://onnx.ai/sklearn-onnx/supported.html"
        if module not in ("sklearn", "xgboost", "lightgbm"):
            default = "scikit-learn, XGBoost and LightGBM models are read here"
        raise ModelError(
            f"no conversion is known for {', '.join(problems)}", hint="; ".join(dict.fromkeys(hints)) or default
        )


def parts_of(model: Any) -> Iterator[Any]:
    """Every estimator in `model`, compositions too."""
    yield model
    for attribute in _HOLDERS.get(type(model).__name__, ()):
        held = getattr(model, attribute)
        for entry in held if isinstance(held, list | tuple) else [held]:
            part = entry[1] if isinstance(entry, tuple) else entry
            if part is not None and not isinstance(part, str):
                yield from parts_of(part)


def _check_fitted(model: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        raise ModelError(f"{type(model).__name__} is not fitted", hint="save it after fit") from None
    except TypeError:
        # No estimator: told by its type.
        return


def mark_sparse(model: Any) -> tuple[str, ...]:
    """Tells XGBoost's classes in pipelines whether they are fed by a sparse matrix, whose zeros they take for missing.

    Returns:
        A note for the author where that is so.
    """
    notes = []
    for part in parts_of(model):
        sparse = False
        for _, step in getattr(part, "steps", ()):
            if type(step).__module__.startswith("xgboost.") and sparse:
                step.sdkpack_zero_is_missing = True
                notes.append(
                    f"{type(step).__name__} is fed by a sparse matrix, of which it takes zeros for missing values; "
                    "so does the converted model. Was that meant? See sparse_output and sparse_threshold"
                )
            sparse = _gives_sparse(step, sparse)
    return tuple(notes)


def _gives_sparse(step: Any, before: bool) -> bool:
    name = type(step).__name__
    if name == "ColumnTransformer":
        return bool(step.sparse_output_)
    if name == "FeatureUnion":
        return any(_gives_sparse(part, before) for _, part in step.transformer_list)
    if hasattr(step, "sparse_output"):
        return bool(step.sparse_output)
    return before and not hasattr(step, "n_components")


def _misused(model: Any) -> list[str]:
    """Predictors in the middle of a pipeline, there for their `transform`: skl2onnx lets them predict."""
    from sklearn.base import is_classifier, is_regressor

    return [
        f"{type(step).__name__} at {name!r} as a transformer"
        for part in parts_of(model) for name, step in getattr(part, "steps", ())[:-1]
        if is_classifier(step) or is_regressor(step)
    ]  # fmt: skip


def _parts(model: Any, where: str) -> Iterator[tuple[str, Any]]:
    name = type(model).__name__
    if name not in _HOLDERS or not type(model).__module__.startswith("sklearn."):
        yield where, model
        return
    for attribute in _HOLDERS[name]:
        held = getattr(model, attribute)
        for place, entry in enumerate(held if isinstance(held, list | tuple) else [held]):
            label, part = (entry[0], entry[1]) if isinstance(entry, tuple) else (f"{attribute}[{place}]", entry)
            if part is None or isinstance(part, str):
                continue
            yield from _parts(unwrapped(part), f"{where}.{label}".lstrip("."))
