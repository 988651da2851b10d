"""What the converters of XGBoost's and LightGBM's own files share: one input, one sum of trees, one link."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Probe,
    StepContext,
)
from sdkpack_sklearn.ensemble import Boosted, emit, emit_classes
from sdkpack_sklearn.graph import BATCH, GraphSink, opset_for, save_model
from sdkpack_sklearn.samples import evaluated

__all__ = ["INPUT", "LABEL", "MARGIN", "PREDICTION", "PROBABILITIES", "NativeConverter"]

INPUT: Final = "X"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
PREDICTION: Final = "prediction"
MARGIN: Final = "margin"
"""The inner tensor that both sides can show: the sums of leaves before the link function."""


class NativeConverter:
    """A library's own file to ONNX. Subclasses read it and run it."""

    library: str
    """The distribution that reads the file, and whose version counts."""

    def probe(self) -> Probe:
        names = (self.library, "numpy", "onnx")
        return Probe(ok=True, fingerprint=", ".join(f"{name} {version(name)}" for name in names))

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        context.progress(0.1, f"reading {request.source.name}")
        booster = self.load(request)
        model = self.describe(booster, request)
        context.progress(0.5, "writing ONNX")
        name, batch = declared_input(request, model.features)
        path = context.work / "model.onnx"
        opset = opset_for(request.opset)
        onnx_model = _graph(model, name, batch, opset)
        context.progress(0.9, "checking")
        save_model(onnx_model, path, _metadata(model))
        return ConvertResult(model=path, notes=model.notes, tools=self._tools())

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the library on each sample."""
        context.progress(0.1, f"reading {request.conversion.source.name}")
        booster = self.load(request.conversion)
        model = self.describe(booster, request.conversion)
        name, _ = declared_input(request.conversion, model.features)

        def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
            value, margin = self.predict(booster, arrays[name], request.conversion)
            return {**_outputs(model, value), MARGIN: margin}

        wanted = {*(_names(model)), *(tensor for tensor in request.tensors if tensor == MARGIN)}
        return EvaluateResult(outputs=evaluated(request, context, run, wanted), tools=self._tools())

    def load(self, request: ConvertRequest) -> Any:
        """The library's own object.

        Raises:
            ModelError: the file is damaged or of another format.
        """
        raise NotImplementedError

    def describe(self, booster: Any, request: ConvertRequest) -> Boosted:
        """
        Raises:
            ModelError: the model uses what cannot be converted.
        """
        raise NotImplementedError

    def predict(self, booster: Any, x: Any, request: ConvertRequest) -> tuple[Any, Any]:
        """The library's answer and its margin, both float32 [N, targets]."""
        raise NotImplementedError

    def _tools(self) -> dict[str, str]:
        return {name: version(name) for name in (self.library, "onnx")}


def declared_input(request: ConvertRequest, features: int) -> tuple[str, int | str]:
    """Name and batch of the only input: the author's where declared.

    Raises:
        ModelError: what is declared does not fit the model.
    """
    if not request.inputs:
        return INPUT, BATCH
    spec = request.inputs[0]
    fits = len(spec.shape) == 2 and (spec.shape[1] == features or isinstance(spec.shape[1], str))
    if len(request.inputs) > 1 or spec.dtype != "float32" or not fits:
        got = "; ".join(map(str, request.inputs))
        raise ModelError(
            f"{request.source.name!r} has one input, float32 of shape [N, {features}], got {got}",
            hint=f'models.{request.name}.inputs.{spec.name} = {{ dtype = "float32", shape = ["N", {features}] }}',
        )
    return spec.name, BATCH if spec.shape[0] == "?" else spec.shape[0]


def _graph(model: Boosted, name: str, batch: int | str, opset: int) -> Any:
    from onnx import TensorProto, helper

    sink = GraphSink()
    if model.classes:
        value = emit(sink, model, name, MARGIN)
        emit_classes(sink, model, value, None, LABEL, PROBABILITIES)
        shapes = [(LABEL, TensorProto.INT64, [batch]), (PROBABILITIES, TensorProto.FLOAT, [batch, model.classes])]
    else:
        sink.node("Identity", [emit(sink, model, name, MARGIN)], PREDICTION)
        shapes = [(PREDICTION, TensorProto.FLOAT, [batch, len(model.base)])]
    outputs = [helper.make_tensor_value_info(*row) for row in shapes]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, model.features])]
    return sink.model("boosted", opset, inputs, outputs)


def _outputs(model: Boosted, value: Any) -> dict[str, Any]:
    import numpy as np

    if not model.classes:
        return {PREDICTION: value}
    if value.shape[1] == 1:
        label = (value[:, 0] > 0.5).astype(np.int64)
        return {LABEL: label, PROBABILITIES: np.concatenate([1 - value, value], axis=1)}
    return {LABEL: value.argmax(axis=1).astype(np.int64), PROBABILITIES: value}


def _names(model: Boosted) -> tuple[str, ...]:
    return (LABEL, PROBABILITIES) if model.classes else (PREDICTION,)


def _metadata(model: Boosted) -> dict[str, object]:
    names = {"feature_names": "\n".join(model.feature_names)} if model.feature_names else {}
    return {**names, **model.metadata}
