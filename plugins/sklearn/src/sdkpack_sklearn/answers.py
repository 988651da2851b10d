"""The outputs of a scikit-learn model: which of its methods they are, and under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdkpack.errors import ModelError
from sdkpack_sklearn.columns import Table
from sdkpack_sklearn.nesting import final_step
from sdkpack_sklearn.params import SklearnParams

__all__ = ["Answers", "answers_of"]

_METHODS = {
    "label": "predict", "probabilities": "predict_proba", "scores": "decision_function", "distances": "transform",
    "prediction": "predict", "transformed": "transform",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What comes out."""

    source: Any
    outputs: tuple[tuple[str, str], ...]
    """(name in ONNX, kind: a key of `_METHODS`), in the order of skl2onnx's outputs."""
    classes: Any = None
    """A classifier's labels."""
    numbers: bool = False
    """The output `label` holds places in `classes`."""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.outputs)

    def options(self, model: Any) -> dict[int, dict[str, Any]]:
        """For skl2onnx: tensors instead of lists of maps; scores as `decision_function` gives them."""
        if self.classes is None:
            return {}
        last = final_step(model)
        found: dict[str, Any] = {"zipmap": False} if _has_option(last, "zipmap") else {}
        if any(kind == "scores" for _, kind in self.outputs) and _has_option(last, "raw_scores"):
            found["raw_scores"] = True
        return {id(last): found} if found else {}

    def name_outputs(self, model: Any) -> None:
        """Gives the outputs of an ONNX model their names, and labels their numbers.

        Raises:
            ModelError: it has other outputs than the model's kind says.
        """
        found = [output.name for output in model.graph.output]
        if self.names == ("label",):
            del model.graph.output[1:]
        elif len(found) != len(self.outputs):
            raise ModelError(
                f"{type(final_step(self.source)).__name__} has {len(found)} outputs, expected {', '.join(self.names)}",
                hint="models with several labels for a row cannot be converted: convert one model a label",
            )
        for output, (name, kind) in zip(model.graph.output, self.outputs, strict=True):
            if kind == "label":
                self._set_label(model, output, name)
            elif output.name != name:
                _rename(model, output.name, name)
            if kind == "scores" and self.classes is not None and len(self.classes) == 2:
                # Both signs of the one score; skl2onnx says one column for some and writes two.
                output.type.tensor_type.shape.dim[1].dim_value = 2

    def of(self, rows: Any, onnx_outputs: Mapping[str, tuple[Any, int]]) -> dict[str, Any]:
        """The source's answers, as the ONNX model gives them.

        Args:
            rows: what the source takes.
            onnx_outputs: NumPy type and width of the second dimension (0: open, or none) by output; what is not named
                stays as the source gives it.
        """
        import numpy as np

        found = {}
        for name, kind in self.outputs:
            value = getattr(self.source, _METHODS[kind])(rows)
            value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
            if kind == "label":
                found[name] = self._label(value)
            else:
                dtype, width = onnx_outputs.get(name, (value.dtype, 0))
                found[name] = _shaped(value.astype(dtype), width)
        return found

    def _label(self, value: Any) -> Any:
        import numpy as np

        if self.numbers:
            return np.searchsorted(self.classes, value).astype(np.int64)
        # As wide as these words are, whatever others the classes are.
        return np.array(value.tolist(), str) if value.dtype.kind in "OUS" else value.astype(np.int64)

    def _set_label(self, model: Any, output: Any, name: str) -> None:
        """Some of skl2onnx's converters give labels as [N, 1] or [1, N], and say nothing of it."""
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper

        inner = f"{output.name}_any_rank"
        _rename(model, output.name, inner)
        text = output.type.tensor_type.elem_type == TensorProto.STRING
        shape = f"{inner}_shape"
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), shape))
        flat = f"{inner}_flat" if self.numbers else name
        model.graph.node.append(helper.make_node("Reshape", [inner, shape], [flat], f"node_{flat}"))
        kind = TensorProto.STRING if text and not self.numbers else TensorProto.INT64
        if self.numbers:
            keys = [str(label) for label in self.classes] if text else [int(label) for label in self.classes]
            attributes: dict[str, Any] = {
                "keys_strings" if text else "keys_int64s": keys,
                "values_int64s": list(range(len(keys))),
            }
            node = helper.make_node("LabelEncoder", [flat], [name], f"node_{name}", domain="ai.onnx.ml", **attributes)
            model.graph.node.append(node)
            _need_ml_opset(model, 2)
        output.CopyFrom(helper.make_tensor_value_info(name, kind, [None]))


def answers_of(model: Any, params: SklearnParams, table: Table) -> Answers:
    """
    Raises:
        ModelError: a kind of model that gives no tensors.
    """
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

    last = final_step(model)
    taken = {spec.name for spec in table.specs}
    if is_classifier(last):
        return _classifier(model, params, taken)
    if is_regressor(last) or type(last).__name__.endswith("Ranker"):
        kinds: tuple[str, ...] = ("prediction",)
    elif is_outlier_detector(last):
        kinds = ("label", "scores")
    elif is_clusterer(last):
        kinds = ("label", "distances")
    elif hasattr(last, "predict_proba") and hasattr(last, "predict"):
        kinds = ("label", "probabilities")
    elif hasattr(last, "transform"):
        kinds = ("transformed",)
    else:
        raise ModelError(
            f"{type(last).__name__} neither predicts nor transforms", hint="convert a fitted estimator or pipeline"
        )
    return Answers(source=model, outputs=_free(kinds, taken))


def _classifier(model: Any, params: SklearnParams, taken: set[str]) -> Answers:
    import numpy as np

    classes = model.classes_
    if isinstance(classes, list):
        raise ModelError(
            f"{type(final_step(model)).__name__} gives {len(classes)} labels for a row",
            hint="train one classifier for each label",
        )
    classes = np.asarray(classes)
    rated = [kind for kind in ("probabilities", "scores") if hasattr(model, _METHODS[kind])]
    # Voting by heads knows neither: then the label is all that there is.
    kinds = ("label", *rated[:1])
    text = classes.dtype.kind in "OUS"
    shown = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
    notes: tuple[str, ...] = ()
    if params.labels == "numbers":
        notes = (f"label holds the number of the class, from 0: {shown}",)
    elif text:
        notes = ('label is text; for a number instead: with.labels = "numbers"',)
    return Answers(
        source=model, outputs=_free(kinds, taken), classes=classes, numbers=params.labels == "numbers", notes=notes
    )


def _free(kinds: Sequence[str], taken: set[str]) -> tuple[tuple[str, str], ...]:
    # A column may be called `label`; two tensors of one name cannot be.
    return tuple((f"output_{kind}" if kind in taken else kind, kind) for kind in kinds)


def _has_option(estimator: Any, name: str) -> bool:
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter

    alias = sklearn_operator_name_map.get(type(estimator))
    return alias is not None and name in (get_converter(alias).get_allowed_options() or {})


def _shaped(value: Any, width: int) -> Any:
    """A column for one number a row, both signs of a score for two classes."""
    import numpy as np

    if value.ndim == 1 and width:
        return np.stack([-value, value], axis=1) if width == 2 else value[:, None]
    return value


def _need_ml_opset(model: Any, version: int) -> None:
    """skl2onnx states the oldest version that its own nodes need; LabelEncoder took another form in 2, and a graph that
    has one in the old form is none that skl2onnx writes."""
    from onnx import helper

    found = [entry for entry in model.opset_import if entry.domain == "ai.onnx.ml"]
    if not found:
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", version))
    for entry in found:
        entry.version = max(entry.version, version)


def _rename(model: Any, old: str, new: str) -> None:
    """Renames a tensor wherever it stands; a tensor that has the new name already makes room."""
    used = {name for node in model.graph.node for name in (*node.input, *node.output)}
    if new in used:
        _rename(model, new, _unused(new, used))
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for value in (*model.graph.output, *model.graph.value_info):
        if value.name == old:
            value.name = new


def _unused(name: str, used: set[str]) -> str:
    return next(found for number in range(len(used) + 1) if (found := f"{name}_{number}") not in used)
