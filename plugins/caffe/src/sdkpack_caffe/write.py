"""Writes the graph as an ONNX model, with the names of the prototxt, and checks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.graph import Graph, Value

__all__ = ["model_bytes"]

_MAX_BYTES: Final = (1 << 31) - 1


def model_bytes(
    graph: Graph, inputs: Sequence[tuple[str, tuple[int | str, ...]]], outputs: Sequence[tuple[str, Value]], *,
    name: str,
) -> bytes:  # fmt: skip
    """The model: outputs bear their blobs' names, inputs come in NCHW as Caffe takes them.

    Raises:
        ModelError: larger than 2 GiB, or ONNX works out other shapes than Caffe.
    """
    import onnx
    from onnx import helper, numpy_helper

    size = sum(array.nbytes for array in graph.constants.values())
    if size > _MAX_BYTES:
        raise ModelError(f"the model would have {size} bytes, at most {_MAX_BYTES} fit into one ONNX file")
    names = _name_outputs(graph, {name for name, _ in inputs}, outputs)
    used = {name for node in graph.nodes for name in node.input}
    body = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in names],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items() if name in used],
    )
    opset = helper.make_opsetid("", graph.opset)
    ir = helper.find_min_ir_version_for([opset])
    model = helper.make_model(body, opset_imports=[opset], ir_version=max(8, ir), producer_name="sdkpack-caffe")
    _check(model, graph)
    return bytes(model.SerializeToString(deterministic=True))


def _name_outputs(
    graph: Graph, inputs: set[str], outputs: Sequence[tuple[str, Value]]
) -> list[tuple[str, tuple[int | str, ...]]]:
    """Gives outputs their blobs' names; one value under two names, or an input, passes through an Identity."""
    from onnx import helper

    renamed: dict[str, str] = {}
    named: list[tuple[str, tuple[int | str, ...]]] = []
    wanted = {blob for blob, _ in outputs}
    for blob, value in outputs:
        if value.name in inputs and blob == value.name:
            continue
        final = blob if blob not in inputs else graph.fresh(f"{blob}_out")
        if final != blob:
            graph.notes.append(f"blob {blob!r} is input and output: the output is called {final!r}")
        if value.name in inputs or value.name in graph.constants or value.name in renamed:
            graph.nodes.append(
                helper.make_node("Identity", [value.name], [final], name=graph.fresh(f"{final}/Identity"))
            )
        else:
            renamed[value.name] = final
        named.append((final, value.shape if value.shape is not None else ()))
    # An inner tensor may have the name that an output needs.
    for name in (set(graph.constants) | {n for node in graph.nodes for n in node.output}) & (wanted - inputs):
        if name not in renamed and not any(name in node.output and node.op_type == "Identity" for node in graph.nodes):
            renamed[name] = graph.fresh(f"{name}/inner")
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for before, after in renamed.items():
        if before in graph.shapes:
            graph.shapes[after] = graph.shapes.pop(before)
        if before in graph.constants:
            graph.constants[after] = graph.constants.pop(before)
    return named


def _check(model: Any, graph: Graph) -> None:
    """What ONNX works out must be what Caffe computes: a difference is an error of this converter."""
    import onnx

    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the converted model is no valid ONNX: {str(error).splitlines()[0]}") from error
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        dims = info.type.tensor_type.shape.dim
        expected = graph.shapes.get(info.name)
        if expected is None or not info.type.tensor_type.HasField("shape"):
            continue
        found = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
        if len(found) != len(expected) or any(f not in (None, e) for f, e in zip(found, expected, strict=True)):
            raise ModelError(f"tensor {info.name!r} has the shape {list(expected)} in Caffe and {list(found)} in ONNX")
