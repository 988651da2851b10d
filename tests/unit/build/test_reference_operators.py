from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sdkpack.build.steps.reference_operators import corrected_operators


def batch_norm(opset: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {name: rng.uniform(0.5, 2.0, 3).astype(np.float32) for name in ("scale", "bias", "mean", "variance")}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], momentum=0.9)
    graph = helper.make_graph(
        [node],
        "bn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def test_a_stated_momentum_does_not_mean_training_before_opset_14() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    newest = ReferenceEvaluator(batch_norm(15)).run(None, {"x": x})[0]
    for opset in (9, 11, 13):
        model = batch_norm(opset)
        corrected = ReferenceEvaluator(model, new_ops=corrected_operators(opset)).run(None, {"x": x})[0]
        np.testing.assert_allclose(corrected, newest, rtol=1e-6)


def _compared(
    node: onnx.NodeProto, opset: int, inputs: dict[str, Any], constants: dict[str, Any] | None = None
) -> None:
    """The corrected reference against ONNX Runtime, which shares nothing with it."""
    import onnxruntime

    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
         for name, value in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    [expected] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    [found] = ReferenceEvaluator(model, new_ops=corrected_operators(opset)).run(None, inputs)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


X = np.random.default_rng(2).standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_softmax_takes_the_axes_that_its_version_says(op: str, opset: int, axis: int | None) -> None:
    attributes = {} if axis is None else {"axis": axis}
    _compared(helper.make_node(op, ["x"], ["y"], **attributes), opset, {"x": X})


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn_takes_the_whole_window(opset: int, size: int) -> None:
    _compared(helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.1), opset, {"x": X})


@pytest.mark.parametrize(("opset", "axis"), [(10, None), (13, None), (13, 0), (17, 1), (17, -1), (19, 1), (21, 1)])
def test_dequantize_linear_is_there_for_every_opset(opset: int, axis: int | None) -> None:
    x = np.random.default_rng(3).integers(0, 255, (2, 3, 4), dtype=np.uint8)
    count = 1 if axis is None else x.shape[axis]
    scale = np.linspace(0.1, 0.3, count, dtype=np.float32)
    zero = np.arange(count, dtype=np.uint8)
    constants = {"s": scale, "z": zero} if axis is not None else {"s": scale[0], "z": zero[0]}
    attributes = {} if axis is None else {"axis": axis}
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **attributes)
    _compared(node, opset, {"x": x}, constants)
