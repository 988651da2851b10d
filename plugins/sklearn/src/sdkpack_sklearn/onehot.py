"""OneHotEncoder. skl2onnx 1.20.0 takes numbers for whole ones: 0.7 counts as 0, and 0.5 is no category at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sdkpack.errors import ModelError

__all__ = ["register_one_hot"]


def register_one_hot() -> None:
    """Tells skl2onnx of this converter."""
    from skl2onnx import update_registered_converter
    from sklearn.preprocessing import OneHotEncoder

    update_registered_converter(OneHotEncoder, "SdkpackOneHotEncoder", _shapes, _convert)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    import numpy as np
    from onnx import TensorProto

    from sdkpack_sklearn.boosters import ContainerSink

    encoder = operator.raw_operator
    if getattr(encoder, "_infrequent_enabled", False):
        raise ModelError(
            "OneHotEncoder with min_frequency or max_categories cannot be converted",
            hint="train without them, or join rare categories before",
        )
    sink = ContainerSink(scope, container)
    dropped = [None] * len(encoder.categories_) if encoder.drop_idx_ is None else encoder.drop_idx_
    parts = []
    for column, categories, without in zip(_columns(sink, operator), encoder.categories_, dropped, strict=True):
        text = np.asarray(categories).dtype.kind in "OUS"
        places = _among_text(sink, column, categories) if text else _among_numbers(sink, column, categories)
        if without is not None:
            kept = np.delete(np.arange(len(categories)), int(without))
            places = sink.node("Gather", [places, sink.constant(kept.astype(np.int64))], axis=1)
        parts.append(places)
    value = parts[0] if len(parts) == 1 else sink.node("Concat", parts, axis=1)
    sink.node("Cast", [value], operator.outputs[0].full_name, to=TensorProto.FLOAT)


def _columns(sink: Any, operator: Any) -> Iterator[str]:
    """Each column of each input, [N, 1]."""
    import numpy as np

    for variable in operator.inputs:
        width = variable.type.shape[1]
        for place in range(width):
            index = sink.constant(np.array([place], np.int64))
            yield variable.full_name if width == 1 else sink.node("Gather", [variable.full_name, index], axis=1)


def _among_numbers(sink: Any, column: str, categories: Any) -> str:
    """float32 [N, categories]: in double, where a float32 and a float64 category are what they are to scikit-learn."""
    import numpy as np
    from onnx import TensorProto

    values = np.asarray(categories, np.float64)[None, :]
    exact = sink.node("Cast", [column], to=TensorProto.DOUBLE)
    same = sink.node("Equal", [exact, sink.constant(values)])
    if np.isnan(values).any():
        missing = sink.node("And", [sink.node("IsNaN", [exact]), sink.constant(np.isnan(values))])
        same = sink.node("Or", [same, missing])
    return str(sink.node("Cast", [same], to=TensorProto.FLOAT))


def _among_text(sink: Any, column: str, categories: Any) -> str:
    """float32 [N, categories]; a word that is none of them has zeros."""
    import numpy as np

    if not all(isinstance(value, str) for value in categories):
        raise ModelError(
            f"OneHotEncoder has categories that are no text among some that are: {list(categories)[:6]}",
            hint="fill in missing words before",
        )
    flat = sink.node("Reshape", [column, sink.constant(np.array([-1], np.int64))])
    words = [str(value) for value in categories]
    return str(sink.node("OneHotEncoder", [flat], domain="ai.onnx.ml", op_version=1, cats_strings=words, zeros=1))


def _shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    encoder = operator.raw_operator
    width = len(encoder.get_feature_names_out())
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), width])
