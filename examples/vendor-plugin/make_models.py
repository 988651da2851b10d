"""Writes two small models and their samples: a colour classifier and a brightness meter. Seeded, made in a second.

python make_models.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE_PX = 32
CLASSES = ("red", "green", "blue", "grey")


def main(folder: Path) -> None:
    """The models that `recipe.toml` names, their samples, labels and a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    onnx.save(classifier(rng), str(folder / "colour.onnx"))
    onnx.save(meter(rng), str(folder / "light.onnx"))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for number in range(8):
        image = picture(rng, number % 4)
        x = ((image / 255.0 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32)
        np.savez(folder / f"sample-{number}.npz", x=x)
    np.save(folder / "red.npy", picture(rng, 0))


def picture(rng: Any, kind: int) -> Any:
    """uint8 HWC: noise, with one channel brighter than the others; grey has none."""
    image = rng.integers(0, 120, (SIZE_PX, SIZE_PX, 3))
    if kind < 3:
        image[:, :, kind] += 130
    return image.astype(np.uint8)


def classifier(rng: Any) -> Any:
    """x [N, 3, 32, 32] -> Conv, Relu, MaxPool, Conv, Relu, GlobalAveragePool, Flatten, Gemm, Softmax."""
    spread = np.zeros((8, 3, 3, 3), np.float32)
    for channel in range(8):
        spread[channel, channel % 3] = 1 / 9
    mixing = rng.standard_normal((8, 8, 1, 1)).astype(np.float32) * 0.05 + np.eye(8, dtype=np.float32)[:, :, None, None]
    head = np.array([[4.0, -2, -2, -1], [-2, 4, -2, -1], [-2, -2, 4, -1]], np.float32)[np.arange(8) % 3]
    weights = {"w1": spread, "b1": np.full(8, 0.2, np.float32), "w2": mixing, "b2": np.zeros(8, np.float32),
               "w3": head, "b3": np.array([0, 0, 0, 1.0], np.float32)}  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "smooth", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "mix", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=-1),
    ]
    return _model("colour", nodes, "scores", ["N", len(CLASSES)], weights)


def meter(rng: Any) -> Any:
    """x [N, 3, 32, 32] -> Conv, GlobalAveragePool, Flatten: the mean light."""
    weights = {"w": np.full((1, 3, 1, 1), 1 / 3, np.float32), "b": np.full(1, 0.5, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "light", kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["level"], "flatten"),
    ]
    return _model("light", nodes, "level", ["N", 1], weights)


def _model(name: str, nodes: Any, output: str, shape: list[Any], weights: dict[str, Any]) -> Any:
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIZE_PX, SIZE_PX])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
