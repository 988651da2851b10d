"""With models that compute: batching, padding and order show in real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from sdkpack.documents.pipeline import Pipeline
from sdkpack.pipeline import ModelSignature, check
from sdkpack.types import TensorSpec


def blurring_net() -> onnx.ModelProto:
    """A 1x3 mean over the width, then the greatest of each row: sees padding at its right edge, as real nets do."""
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, "H", "W"])
    y = helper.make_tensor_value_info("/out:0", TensorProto.FLOAT, ["N", 1])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 3], [1 / 3] * 3)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["blurred"], pads=[0, 1, 0, 1]),
        helper.make_node("ReduceMax", ["blurred", "axes"], ["/out:0"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "net", [x], [y], [weight, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def reference() -> Any:
    evaluator = ReferenceEvaluator(blurring_net())
    return lambda inputs: dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True))


def runtime() -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(blurring_net().SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


@pytest.mark.parametrize("make", [reference, runtime])
@pytest.mark.parametrize("pad_value", [0.0, 6.0])
def test_padding_changes_answers_as_the_policy_says(checked: Any, make: Any, pad_value: float) -> None:
    batch = {"max": 2, "sort_by": "aspect", "pad": "right", "pad_value": pad_value, "multiple_of": 4}
    pipeline = checked(
        {"op": "t.strips", "as": ["s", "_"]}, {"model": "net", "each": "s", "batch": batch, "as": "y"},
        inputs={"v": "tensor(float32, [N])"},
    )  # fmt: skip
    rows = pipeline.run({"v": np.array([6, 1, 3], np.float32)}, models={"net": make()})["y"]

    def alone(n: int, width: int) -> float:
        line = np.pad(np.concatenate([np.full(n, n), np.full(width - n, pad_value)]), 1)
        return float(np.convolve(line, np.full(3, 1 / 3), "valid").max())

    # Widths 1 and 3 share a batch of width 4, 6 is padded to 8.
    np.testing.assert_allclose([float(row[0, 0]) for row in rows], [alone(6, 8), alone(1, 4), alone(3, 4)], rtol=1e-6)


def test_a_pipeline_survives_its_way_through_json(normalized: Any, registry: Any) -> None:
    pipeline = normalized(
        {"op": "t.strips", "with": {"height": 3}, "as": ["s", "e"]},
        {"op": "t.scale", "in": "s", "each": "s", "when": "e", "with": {"factor": "$f"}, "as": "t"},
        {"model": "net", "each": "t", "batch": {"max": 2, "pad": "right"}, "as": "y"},
        inputs={"v": "tensor(float32, [N])"}, params={"f": {"default": 2.0, "min": 1.0, "max": 3.0}},
    )  # fmt: skip
    text = pipeline.model_dump_json(by_alias=True, exclude_none=True)
    read = Pipeline.model_validate_json(text, strict=True)
    assert read == pipeline
    signature = ModelSignature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=("N", 1, "H", "W")),),
        outputs=(TensorSpec(name="/out:0", dtype="float32", shape=("N", 1)),),
    )
    checked = check("p", read, registry=registry, models={"net": signature}, assets=lambda path: b"")
    result = checked.run({"v": np.array([4, 5], np.float32)}, params={"f": 3}, models={"net": reference()})
    np.testing.assert_allclose([float(row[0, 0]) for row in result["y"]], [12.0, 5.0], rtol=1e-6)
