from __future__ import annotations

import numpy as np
import onnx
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


def test_newer_opsets_need_no_correction() -> None:
    assert corrected_operators(14) == []
