"""Writes the graph as an ONNX model, with the names of the prototxt, and checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.graph import Graph, Shape, Value

__all__ = ["build_model"]

_MAX_BYTES: Final = (1 << 31) - 1


def build_model(
    graph: Graph, inputs: Sequence[tuple[str, Shape]], outputs: Sequence[str], blobs: Mapping[str, Value], *,
    name: str,
) -> Any:  # fmt: skip
    """The model: tensors bear their blobs' names, inputs come in NCHW as Caffe takes them.

    Args:
        outputs: names of blobs.
        blobs: what each blob is after the last layer.

    Raises:
        ModelError: larger than 2 GiB, or ONNX works out other shapes than Caffe.
    """
    import onnx
    from onnx import helper, numpy_helper

    size = sum(array.nbytes for array in graph.constants.values())
    if size > _MAX_BYTES:
        raise ModelError(f"the model would have {size} bytes, at most {_MAX_BYTES} fit into one ONNX file")
    names = _name_blobs(graph, {name for name, _ in inputs}, outputs, blobs)
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
    return model


def _name_blobs(
    graph: Graph, inputs: set[str], outputs: Sequence[str], blobs: Mapping[str, Value]
) -> list[tuple[str, Shape | None]]:
    """Gives tensors the names of the blobs that they are last; a second name of a tensor passes through an Identity."""
    from onnx import helper

    renamed: dict[str, str] = {}
    named: list[tuple[str, Shape | None]] = []
    # Outputs first: where two names mean one tensor, the output's counts.
    for blob in dict.fromkeys([*outputs, *blobs]):
        value = blobs[blob]
        if blob in inputs and (value.name == blob or blob not in outputs):
            continue
        final = blob
        if blob in inputs:
            final = graph.fresh(f"{blob}_out")
            graph.notes.append(f"blob {blob!r} is input and output: the output is called {final!r}")
        if not (value.name in inputs or value.name in graph.constants or value.name in renamed):
            renamed[value.name] = final
        elif blob in outputs:
            name = graph.fresh(f"{final}/Identity")
            graph.nodes.append(helper.make_node("Identity", [value.name], [final], name=name))
        if blob in outputs:
            named.append((final, value.shape))
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for before, after in renamed.items():
        if before in graph.shapes:
            graph.shapes[after] = graph.shapes.pop(before)
    return named


def _check(model: Any, graph: Graph) -> None:
    """What ONNX works out must be what Caffe computes: a difference is an error of this converter.

    Outputs whose size is open, as that of detections, get the shape that ONNX works out.
    """
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
        for value, found in zip(model.graph.output, inferred.output, strict=True):
            if not value.type.tensor_type.HasField("shape"):
                value.CopyFrom(found)
                for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                    if not dim.HasField("dim_value"):
                        dim.dim_param = f"{value.name}_{axis}"
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the converted model is no valid ONNX: {str(error).splitlines()[0]}") from error
    for info in (*inferred.value_info, *inferred.output):
        expected = graph.shapes.get(info.name)
        if expected is None or not info.type.tensor_type.HasField("shape"):
            continue
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in info.type.tensor_type.shape.dim]
        if len(sizes) != len(expected) or any(f not in (None, e) for f, e in zip(sizes, expected, strict=True)):
            raise ModelError(f"tensor {info.name!r} has the shape {list(expected)} in Caffe and {sizes} in ONNX")
