"""A loaded scikit-learn model to ONNX, and its own answers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import ConvertRequest, ConvertResult, EvaluateRequest, EvaluateResult, StepContext
from sdkpack_sklearn.answers import Answers, answers_of
from sdkpack_sklearn.boosters import register
from sdkpack_sklearn.columns import Table, by_position, inputs_of
from sdkpack_sklearn.forests import direct_missing
from sdkpack_sklearn.graph import opset_for, save_model
from sdkpack_sklearn.nesting import check_supported, final_step, mark_sparse, parts_of
from sdkpack_sklearn.onehot import register_one_hot
from sdkpack_sklearn.params import SklearnParams
from sdkpack_sklearn.samples import evaluated
from sdkpack_sklearn.scaling import register_scalers

__all__ = ["Loaded", "convert_model", "evaluate_model", "params_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that a file held."""

    model: Any
    notes: tuple[str, ...] = ()


def params_of(request: ConvertRequest) -> SklearnParams:
    return request.params if isinstance(request.params, SklearnParams) else SklearnParams()


def convert_model(loaded: Loaded, request: ConvertRequest, context: StepContext) -> ConvertResult:
    """
    Raises:
        ModelError: it holds what cannot be converted.
        StepError: skl2onnx failed.
    """
    register()
    register_scalers()
    register_one_hot()
    check_supported(loaded.model)
    table = inputs_of(loaded.model, request)
    answers = answers_of(loaded.model, params_of(request), table)
    context.progress(0.4, f"converting {type(final_step(loaded.model)).__name__}")
    opset = opset_for(request.opset)
    model = _exported(loaded.model, table, answers, opset)
    context.progress(0.8, "naming inputs and outputs")
    answers.name_outputs(model)
    _state_opset(model, opset)
    _name_batch(model, table.batch)
    _set_widths(model, answers, table)
    missing = direct_missing(loaded.model, model)
    path = context.work / "model.onnx"
    context.progress(0.9, "checking")
    save_model(model, path, _metadata(table, answers))
    return ConvertResult(
        model=path, tools=_tools(loaded.model),
        notes=(*loaded.notes, *answers.notes, *_notes(table), *mark_sparse(copy.deepcopy(loaded.model)), *missing),
    )  # fmt: skip


def evaluate_model(loaded: Loaded, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
    """What scikit-learn itself answers.

    Raises:
        ModelError: it does not take the samples.
    """
    import onnx

    table = inputs_of(loaded.model, request.conversion)
    answers = answers_of(loaded.model, params_of(request.conversion), table)
    outputs = _outputs(onnx.load(request.model, load_external_data=False))

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        with warnings.catch_warnings():
            # Of feature names: which columns are which is settled by their order.
            warnings.simplefilter("ignore")
            return answers.of(table.rows(arrays), outputs)

    return EvaluateResult(
        outputs=evaluated(request, context, run, set(answers.names)), notes=loaded.notes, tools=_tools(loaded.model)
    )


def _exported(source: Any, table: Table, answers: Answers, opset: int) -> Any:
    from skl2onnx import to_onnx
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    model = copy.deepcopy(source)
    mark_sparse(model)
    if len(table.specs) == 1:
        by_position(model)
    for part in parts_of(model):
        # Only `transform` looks at it, and skl2onnx refuses what it does not know there.
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False
    what = type(final_step(model)).__name__
    try:
        return to_onnx(
            model, initial_types=table.initial_types(), target_opset={"": opset, "ai.onnx.ml": 3},
            options=answers.options(model), name=type(model).__name__,
        )  # fmt: skip
    except ModelError:
        raise
    except (MissingConverter, MissingShapeCalculator, NotImplementedError) as error:
        raise ModelError(
            f"skl2onnx has no conversion for what {what} uses: {_first_line(error)}",
            hint="see https://onnx.ai/sklearn-onnx/supported.html, or train with another setting",
        ) from error
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NameError) as error:
        raise StepError(
            f"skl2onnx failed on {what}: {type(error).__name__}: {_first_line(error)}",
            hint="try another setting of that estimator; if a column is no number, declare it: "
            'models.NAME.inputs.COLUMN = { dtype = "string", shape = ["N", 1] }',
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__


def _state_opset(model: Any, opset: int) -> None:
    """skl2onnx states the oldest version that its own nodes need, none at all where all are of ai.onnx.ml, or two."""
    from onnx import helper

    kept = [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", opset), *kept])


def _name_batch(model: Any, batch: int | str) -> None:
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims:
            continue
        if isinstance(batch, int):
            dims[0].dim_value = batch
        else:
            dims[0].dim_param = batch


def _set_widths(model: Any, answers: Answers, table: Table) -> None:
    """The widths of what a table of numbers is turned into, as the source itself has them: skl2onnx guesses some."""
    import numpy as np

    if len(table.specs) != 1 or table.specs[0].dtype != "float32":
        return
    width = int(table.specs[0].shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = answers.of(table.rows({table.specs[0].name: np.zeros((2, width), np.float32)}), {})
    for output, (name, kind) in zip(model.graph.output, answers.outputs, strict=True):
        dims = output.type.tensor_type.shape.dim
        if kind in ("prediction", "transformed") and len(dims) == 2:
            dims[1].dim_value = found[name].shape[1] if found[name].ndim == 2 else 1


def _outputs(model: Any) -> dict[str, tuple[Any, int]]:
    """NumPy type and width, by output."""
    from onnx import helper

    found = {}
    for output in model.graph.output:
        tensor = output.type.tensor_type
        width = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 2 else 0
        found[output.name] = (helper.tensor_dtype_to_np_dtype(tensor.elem_type), width)
    return found


def _metadata(table: Table, answers: Answers) -> dict[str, object]:
    found: dict[str, object] = {}
    if table.names:
        found["feature_names"] = "\n".join(table.names)
    if answers.classes is not None:
        found["classes"] = "\n".join(str(label) for label in answers.classes)
    return found


def _notes(table: Table) -> tuple[str, ...]:
    if len(table.specs) == 1:
        return ()
    return (f"one input for each of {len(table.specs)} columns: {', '.join(map(str, table.specs[:6]))}",)


def _tools(model: Any) -> dict[str, str]:
    names = ["scikit-learn", "skl2onnx", "onnx"]
    kinds = str(type(final_step(model)).__module__)
    names += ["xgboost-cpu"] if kinds.startswith("xgboost") else ["lightgbm"] if kinds.startswith("lightgbm") else []
    return {name: version(name) for name in names}
