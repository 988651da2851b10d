"""Small models for the conformance tests: seeded, of operators that every accelerator has."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["dense", "redundant", "small_models", "strange"]


_OPSET: Final = 17


def small_models(opset: int = _OPSET) -> dict[str, Any]:
    """`ModelProto`s by name: a dense network, and a convolutional one."""
    return {"dense": dense(opset=opset), "conv": _conv(opset)}


def dense(features: int = 16, classes: int = 4, opset: int = _OPSET) -> Any:
    """softmax-free classifier: x [N, features] -> Gemm, Relu, Gemm -> y [N, classes]."""
    from onnx import helper

    weights = {"w1": (features, 32), "b1": (32,), "w2": (32, classes), "b2": (classes,)}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], "first"),
        helper.make_node("Relu", ["h1"], ["r1"], "relu"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["y"], "second"),
    ]
    return _model("dense", nodes, ("x", ["N", features]), ("y", ["N", classes]), weights, opset)


def _conv(opset: int) -> Any:
    """x [1, 3, 16, 16] -> Conv, Relu, MaxPool, Flatten, Gemm -> y [1, 5]."""
    from onnx import helper

    weights = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8 * 8 * 8, 5), "b2": (5,)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p1"], ["f1"], "flatten"),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["y"], "gemm"),
    ]
    return _model("conv", nodes, ("x", [1, 3, 16, 16]), ("y", [1, 5]), weights, opset)


def redundant() -> Any:
    """x [N, 4] -> y [N, 3], with what optimizers take away: doc strings, identities, a sum of constants, transpositions
    that cancel each other, the same node twice, a dead node, a weight that nobody reads, dropout that is off."""
    from onnx import helper

    weights = {"w": (4, 3), "a": (3,), "b": (3,), "unread": (2, 2)}
    nodes = [
        helper.make_node("Identity", ["x"], ["x1"], "identity"),
        helper.make_node("Transpose", ["x1"], ["t1"], "there", perm=[1, 0], doc_string="from a file of the author's"),
        helper.make_node("Transpose", ["t1"], ["t2"], "and_back", perm=[1, 0]),
        helper.make_node("MatMul", ["t2", "w"], ["m"], "product"),
        helper.make_node("Add", ["a", "b"], ["c"], "constants"),
        helper.make_node("Add", ["m", "c"], ["s"], "bias"),
        helper.make_node("Relu", ["s"], ["r1"], "once"),
        helper.make_node("Relu", ["s"], ["r2"], "twice"),
        helper.make_node("Neg", ["s"], ["nobody"], "dead"),
        helper.make_node("Add", ["r1", "r2"], ["d"], "both"),
        helper.make_node("Dropout", ["d"], ["y"], "dropout"),
    ]
    return _model("redundant", nodes, ("x", ["N", 4]), ("y", ["N", 3]), weights)


def strange() -> Any:
    """A model of an operator that nobody has."""
    model = dense()
    model.graph.node[1].op_type = "Swirl"
    model.graph.node[1].domain = "conformance.strange"
    model.opset_import.add(domain="conformance.strange", version=1)
    return model


def _model(name: str, nodes: Any, x: Any, y: Any, weights: dict[str, tuple[int, ...]], opset: int = _OPSET) -> Any:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(20)
    tensors = []
    for key, shape in weights.items():
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        tensors.append(numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), key))
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])], tensors,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    ir_version = max(8, helper.find_min_ir_version_for(opsets))
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
