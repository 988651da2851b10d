"""Scalers, rounded as scikit-learn rounds them.

scikit-learn 1.9 scales a float32 table in place, each step rounded to float32: StandardScaler by float32 numbers, the
others by float64 ones. skl2onnx 1.20.0 multiplies by the float32 inverse. The difference is one bit of float32, and
enough to send a row the other way through a tree whose split is a value of the training data, as XGBoost's are: 5 to 10
percent of the greatest answer in the tests' models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["register_scalers"]


def register_scalers() -> None:
    """Tells skl2onnx of these converters."""
    from skl2onnx import update_registered_converter
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    for kind in (StandardScaler, RobustScaler, MinMaxScaler, MaxAbsScaler):
        update_registered_converter(kind, f"Sdkpack{kind.__name__}", _shapes, _convert)


def _steps(scaler: Any) -> Iterator[tuple[str, Any]]:
    """ONNX operator and float64 numbers of each step, in scikit-learn's order."""
    name = type(scaler).__name__
    if name == "MinMaxScaler":
        yield "Mul", scaler.scale_
        yield "Add", scaler.min_
        return
    centre = {"StandardScaler": "mean_", "RobustScaler": "center_"}.get(name, "")
    if centre and getattr(scaler, "with_mean" if name == "StandardScaler" else "with_centering"):
        yield "Sub", getattr(scaler, centre)
    if getattr(scaler, "scale_", None) is not None:
        yield "Div", scaler.scale_


def _convert(scope: Any, operator: Any, container: Any) -> None:
    import numpy as np
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    from sdkpack_sklearn.boosters import ContainerSink

    sink = ContainerSink(scope, container)
    double = isinstance(operator.outputs[0].type, DoubleTensorType)
    exact, rounded = TensorProto.DOUBLE, TensorProto.DOUBLE if double else TensorProto.FLOAT
    parts = [sink.node("Cast", [variable.full_name], to=exact) for variable in operator.inputs]
    value = parts[0] if len(parts) == 1 else sink.node("Concat", parts, axis=1)
    for step, numbers in _steps(operator.raw_operator):
        single = not double and type(operator.raw_operator).__name__ == "StandardScaler"
        exactly = np.asarray(numbers, np.float32 if single else np.float64).astype(np.float64)
        value = sink.node(step, [value, sink.constant(exactly)])
        if not double:
            # A step on float32 numbers in double, rounded, is the same as in float32: 53 bits are twice 24 and more.
            value = sink.node("Cast", [sink.node("Cast", [value], to=rounded)], to=exact)
    if getattr(operator.raw_operator, "clip", False):
        low, high = (sink.constant(np.array(limit, np.float64)) for limit in operator.raw_operator.feature_range)
        value = sink.node("Clip", [value, low, high])
    sink.node("Cast", [value], operator.outputs[0].full_name, to=rounded)


def _shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    double = any(isinstance(variable.type, DoubleTensorType) for variable in operator.inputs)
    kind = DoubleTensorType if double else FloatTensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), operator.raw_operator.n_features_in_])
