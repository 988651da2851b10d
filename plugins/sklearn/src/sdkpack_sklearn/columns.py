"""The inputs of a scikit-learn model: one table of numbers, or a column for each name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest
from sdkpack.types import TensorSpec
from sdkpack_sklearn.graph import BATCH
from sdkpack_sklearn.nesting import first_step

__all__ = ["Table", "by_position", "inputs_of"]

_TABLE: Final = "X"
_DTYPES: Final = ("float32", "float64", "int64", "string", "bool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How the inputs of the ONNX model make the rows that the source takes."""

    specs: tuple[TensorSpec, ...]
    """[batch, width] each, in the order of the columns."""
    names: tuple[str, ...]
    """Of the columns, where the model was trained on a data frame; else empty."""

    @property
    def batch(self) -> int | str:
        return self.specs[0].shape[0]

    def initial_types(self) -> list[tuple[str, Any]]:
        """For skl2onnx."""
        from skl2onnx.common import data_types

        kinds = {
            "float32": data_types.FloatTensorType, "float64": data_types.DoubleTensorType,
            "int64": data_types.Int64TensorType, "string": data_types.StringTensorType,
            "bool": data_types.BooleanTensorType,
        }  # fmt: skip
        return [(spec.name, kinds[spec.dtype]([None, spec.shape[1]])) for spec in self.specs]

    def rows(self, arrays: Mapping[str, Any]) -> Any:
        """What the source takes: an array, or a data frame where it was trained on one or the types differ."""
        parts = [arrays[spec.name] for spec in self.specs]
        parts = [part.astype(object) if part.dtype.kind in "US" else part for part in parts]
        if not self.names and len({part.dtype for part in parts}) == 1:
            import numpy as np

            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        import pandas as pd

        names = iter(self.names or range(sum(part.shape[1] for part in parts)))
        columns = {next(names): part[:, place] for part in parts for place in range(part.shape[1])}
        return pd.DataFrame(columns)


def inputs_of(model: Any, request: ConvertRequest) -> Table:
    """The author's inputs where declared, else what the model says of itself.

    Raises:
        ModelError: they do not fit the model, or it does not say how many columns it takes.
    """
    count = _count(model)
    names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
    if request.inputs:
        return Table(specs=_declared(request, count), names=names)
    if not count:
        raise ModelError(
            f"{type(model).__name__} does not say how many columns it takes",
            hint=f'declare them: models.{request.name}.inputs.X = {{ dtype = "float32", shape = ["N", 4] }}',
        )
    dtypes = ["float32"] * count
    for place, dtype in _dtypes(model, range(count)):
        dtypes[place] = dtype
    if len(set(dtypes)) == 1 and not any(_selects_by_name(step) for step in _selectors(model)):
        return Table(specs=(TensorSpec(name=_TABLE, dtype=dtypes[0], shape=(BATCH, count)),), names=names)
    labels = names or tuple(f"x{place}" for place in range(count))
    specs = tuple(TensorSpec(name=n, dtype=d, shape=(BATCH, 1)) for n, d in zip(labels, dtypes, strict=True))
    return Table(specs=specs, names=names)


def by_position(model: Any) -> None:
    """Makes every ColumnTransformer choose by position what it chose by name, so that one table can feed it."""
    for step in _selectors(model):
        places = step._transformer_to_input_indices
        step.transformers_ = [(name, part, list(places.get(name, []))) for name, part, _ in step.transformers_]


def _count(model: Any) -> int:
    step = model
    while step is not None:
        found = getattr(step, "n_features_in_", None)
        if found is not None:
            return int(found)
        step = first_step(step)
    return 0


def _declared(request: ConvertRequest, count: int) -> tuple[TensorSpec, ...]:
    specs, problems = [], []
    only = len(request.inputs) == 1
    for spec in request.inputs:
        if spec.dtype not in _DTYPES:
            problems.append(f"{spec}: its type is none of {', '.join(_DTYPES)}")
        if len(spec.shape) != 2:
            problems.append(f"{spec}: expected two dimensions, rows and columns")
            continue
        batch, width = spec.shape
        width = width if isinstance(width, int) else count if only and count else 1
        batch = BATCH if batch == "?" else batch
        specs.append(TensorSpec(name=spec.name, dtype=spec.dtype, shape=(batch, width)))
    if len({spec.shape[0] for spec in specs}) > 1:
        problems.append("their numbers of rows differ")
    total = sum(int(spec.shape[1]) for spec in specs)
    if not problems and count and total != count:
        problems.append(f"together they have {total} columns, the model takes {count}")
    if problems:
        raise ModelError(
            f"the inputs declared for {request.name!r} do not fit: {'; '.join(problems)}",
            hint=f"change models.{request.name}.inputs, or leave it out",
        )
    return tuple(specs)


def _selectors(model: Any) -> Iterator[Any]:
    """Every ColumnTransformer that sees the model's own columns."""
    step = model
    while step is not None:
        if hasattr(step, "_transformer_to_input_indices"):
            yield step
            return
        step = first_step(step)


def _selects_by_name(step: Any) -> bool:
    return any(
        isinstance(columns, str) or (isinstance(columns, list) and any(isinstance(column, str) for column in columns))
        or getattr(getattr(columns, "dtype", None), "kind", "") in ("O", "U", "T")
        for _, part, columns in step.transformers_
        if not (isinstance(part, str) and part == "drop")
    )  # fmt: skip


def _dtypes(model: Any, places: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Columns whose type the first step that sees them knows: text where its categories are text."""
    if hasattr(model, "_transformer_to_input_indices"):
        parts = {name: part for name, part, _ in model.transformers_}
        for name, chosen in model._transformer_to_input_indices.items():
            if not isinstance(parts.get(name, "drop"), str):
                yield from _dtypes(parts[name], [places[place] for place in chosen])
    elif hasattr(model, "transformer_list"):
        for _, part in model.transformer_list:
            if not isinstance(part, str):
                yield from _dtypes(part, places)
    elif (step := first_step(model)) is not None:
        yield from _dtypes(step, places)
    else:
        learnt: Any = getattr(model, "categories_", None)
        learnt = getattr(model, "statistics_", ()) if learnt is None else learnt
        for place, values in zip(places, learnt, strict=False):
            kind = getattr(getattr(values, "dtype", None), "kind", "")
            if _is_text(values):
                yield place, "string"
            elif kind in ("i", "u") and hasattr(model, "categories_"):
                # skl2onnx compares them as whole numbers, and would take 0.7 for 0.
                yield place, "int64"


def _is_text(values: Any) -> bool:
    import numpy as np

    return any(isinstance(value, str) for value in np.ravel(np.asarray(values, dtype=object))[:64])
