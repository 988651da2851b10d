"""From a TensorFlow graph or a TFLite file to ONNX by tf2onnx, and what tf2onnx leaves to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, Problem, StepError
from sdkpack.plugin import ConvertRequest
from sdkpack_tensorflow.canonical import make_canonical
from sdkpack_tensorflow.toolchain import FAULTS

__all__ = ["DEFAULT_OPSET", "OPSETS", "Port", "choose_opset", "convert_graph", "finish", "save"]

OPSETS: Final = range(13, 19)
"""tf2onnx 1.17 writes up to 18; below 13 quantisation knows no axis."""
DEFAULT_OPSET: Final = 17

_MERGE: Final = "merge_duplication"
_SAMPLE: Final = 8
_RANK_4: Final = 4
_ONE_FILE_BYTES: Final = 2_000_000_000  # protobuf's limit is 2 GiB, of which messages take a little


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the source: its tensor there, its name and its shape in ONNX."""

    tensor: str
    name: str
    shape: tuple[int | str, ...] | None = None
    """Sizes and names; None where the rank is not known."""
    dtype: str = ""
    """NumPy's name."""
    as_nchw: bool = False
    notes: tuple[str, ...] = field(default=())


def choose_opset(request: ConvertRequest) -> int:
    """The newest version of ONNX's operators that targets and tf2onnx know.

    Raises:
        ModelError: the targets take none that tf2onnx writes well.
    """
    if request.opset is None:
        return DEFAULT_OPSET
    if request.opset < OPSETS[0]:
        raise ModelError(
            f"opset {request.opset} is not supported for {request.name!r}: TensorFlow models need {OPSETS[0]} to "
            f"{OPSETS[-1]}",
            hint="choose a target whose runtime takes a newer opset",
        )
    return min(request.opset, OPSETS[-1])


def convert_graph(
    *,
    opset: int,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    what: str,
    frozen: Any = None,
    tflite: Path | None = None,
    tables: Mapping[str, Any] | None = None,
) -> Any:
    """Runs tf2onnx over a frozen graph or a TFLite file.

    Returns:
        An `onnx.ModelProto`, names of inputs and outputs as in `inputs` and `outputs`.

    Raises:
        ModelError: operators that ONNX has no counterpart of, all of them.
        StepError: tf2onnx failed.
    """
    from tf2onnx import optimizer

    arguments: dict[str, Any] = {
        "opset": opset,
        "input_names": [port.tensor for port in inputs],
        "output_names": [port.tensor for port in outputs],
        "inputs_as_nchw": [port.tensor for port in inputs if port.as_nchw],
        "tensors_to_rename": {port.tensor: port.name for port in (*inputs, *outputs) if port.tensor != port.name},
        "custom_op_handlers": {"Erfc": (_erfc, [])},
    }
    if tflite is not None:
        arguments["tflite_path"] = str(tflite)
    else:
        arguments["initialized_tables"] = dict(tables or {})
    try:
        made = _processed(frozen, inputs, arguments)
    except FAULTS:
        # It stopped at the first operator that it could not convert; a second run, for its findings alone, goes on.
        _refuse_unknown(_processed(frozen, inputs, {**arguments, "continue_on_error": True}), what)
        raise
    _refuse_unknown(made, what)
    # Of several equal nodes and weights it keeps any one, under its name; `make_canonical` keeps the first weight.
    passes = {name: made_by for name, made_by in optimizer._get_optimizers().items() if name != _MERGE}  # noqa: SLF001
    return optimizer.optimize_graph(made, catch_errors=True, optimizers=passes).make_model(what)


def _processed(frozen: Any, inputs: Sequence[Port], arguments: Mapping[str, Any]) -> Any:
    """One run of tf2onnx; gives its own graph."""
    import tensorflow as tf
    from tf2onnx import tfonnx, utils

    # Names that tf2onnx makes up hold a number: begun anew, the same source gives the same names.
    utils.INTERNAL_NAME = 1
    with tf.Graph().as_default() as graph:
        if frozen is None:
            return tfonnx.process_tf_graph(None, **arguments)
        tf.import_graph_def(frozen, name="")
        for port in inputs:
            if port.shape is not None:
                shape = [dim if isinstance(dim, int) else None for dim in port.shape]
                graph.get_tensor_by_name(port.tensor).set_shape(shape)
        return tfonnx.process_tf_graph(graph, **arguments)


def _erfc(graph: Any, node: Any, _name: str, _args: Any) -> None:
    """erfc(x) = 1 - erf(x), in Keras' exact GELU; tf2onnx 1.17 knows erf alone."""
    import numpy as np
    from tf2onnx import utils

    dtype = utils.map_onnx_to_numpy_type(graph.get_dtype(node.output[0]))
    one = graph.make_const(f"{node.name}_one", np.ones((), dtype)).output[0]
    erf = graph.make_node("Erf", [node.input[0]]).output[0]
    shapes, dtypes, output = node.output_shapes, node.output_dtypes, node.output[0]
    graph.remove_node(node.name)
    graph.make_node("Sub", [one, erf], outputs=[output], shapes=shapes, dtypes=dtypes, name=node.name)


def _refuse_unknown(graph: Any, what: str) -> None:
    """Operators that tf2onnx left as they were, which it does not count as a failure."""
    import onnx

    unknown: dict[str, list[str]] = {}
    for node in _all_nodes(graph):
        known = node.domain not in ("", "ai.onnx") or onnx.defs.has(node.type, "")
        if not known and not node.is_graph_input() and not node.is_const():
            unknown.setdefault(node.type, []).append(node.name)
    if len(unknown) > 1:
        # It is for what it calls that a call could not be taken apart.
        unknown = {kind: names for kind, names in unknown.items() if kind not in _CALLS}
    if unknown:
        raise ModelError(
            f"{what} uses operators that ONNX has no counterpart of: {', '.join(sorted(unknown))}",
            hint="replace them in the network, or leave out the outputs that need them: convert.with.outputs",
            problems=[
                Problem(path=kind, message=f"used by {', '.join(names[:_SAMPLE])}{' ...' if names[_SAMPLE:] else ''}")
                for kind, names in sorted(unknown.items())
            ],
        )


_CALLS: Final = ("PartitionedCall", "StatefulPartitionedCall")


def _all_nodes(graph: Any) -> list[Any]:
    from tf2onnx.tf_loader import find_function

    nodes = []
    for node in graph.get_nodes():
        nodes.append(node)
        called = find_function(node.get_attr("f").s.decode()) if node.type in _CALLS and node.get_attr("f") else None
        if called is not None:
            nodes.extend(_all_nodes(called))
        for inner in node.get_body_graphs().values() if node.get_body_graphs() else ():
            nodes.extend(_all_nodes(inner))
    return nodes


# Finishing ------------------------------------------------------------------------------------------------------------
def finish(model: Any, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[str, ...]:
    """Names the open dimensions, infers what follows from them, and says which way images lie. Changes `model`.

    Returns:
        Notes for the author.

    Raises:
        StepError: the result breaks a rule of ONNX.
    """
    import onnx

    graph = model.graph
    ports = {port.name: port for port in inputs}
    _order(graph.input, [port.name for port in inputs])
    _order(graph.output, [port.name for port in outputs])
    for value in graph.input:
        port = ports[value.name]
        if port.shape is not None:
            shape = _nchw(port.shape) if port.as_nchw else port.shape
            _set_shape(value, shape)
    found = {port.name: port for port in outputs}
    for value in graph.output:
        _drop_made_up(value, ports)
        said = found[value.name].shape
        if said is not None:
            _set_shape(value, said)
    make_canonical(model)
    # What tf2onnx says of inner tensors is at times wrong after its optimisations; inference says it anew.
    del graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, data_prop=True)
        known = {value.name: value for value in inferred.graph.output}
        for value in graph.output:
            _merge(value, known[value.name])
            _drop_made_up(value, ports)
        if model.ByteSize() < _ONE_FILE_BYTES:
            onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StepError(f"tf2onnx wrote a model that is not ONNX: {str(error).splitlines()[0]}") from error
    return (*_layout_notes(model, inputs), *_open_notes(graph))


def _order(values: Any, names: Sequence[str]) -> None:
    """Inputs and outputs in the source's order; an input that nothing uses is an input all the same."""
    import onnx

    known = {value.name: value for value in values}
    missing = [name for name in names if name not in known]
    if missing:
        raise StepError(f"tf2onnx lost {', '.join(missing)}")
    copies = []
    for name in names:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(known[name])
        copies.append(copy)
    del values[:]
    values.extend(copies)


def _nchw(shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == _RANK_4 else shape


def _set_shape(value: Any, shape: Sequence[int | str]) -> None:
    wanted = value.type.tensor_type.shape
    del wanted.dim[:]
    for dim in shape:
        if isinstance(dim, int):
            wanted.dim.add(dim_value=dim)
        elif dim == "?":
            wanted.dim.add()
        else:
            wanted.dim.add(dim_param=dim)


def _drop_made_up(value: Any, ports: Mapping[str, Port]) -> None:
    """A dimension that bears a name made up by a tool is open without a name: the number in it says nothing."""
    names = {dim for port in ports.values() for dim in port.shape or () if isinstance(dim, str)}
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param and dim.dim_param not in names:
            dim.ClearField("dim_param")
        elif dim.HasField("dim_value") and dim.dim_value < 0:
            dim.ClearField("dim_value")


def _merge(value: Any, inferred: Any) -> None:
    """Inference follows from the inputs; where it knows nothing, the source's word stands."""
    if not inferred.type.tensor_type.HasField("shape"):
        return
    if not value.type.tensor_type.HasField("shape") or len(value.type.tensor_type.shape.dim) == 0:
        value.type.tensor_type.shape.CopyFrom(inferred.type.tensor_type.shape)
        return
    for mine, theirs in zip(value.type.tensor_type.shape.dim, inferred.type.tensor_type.shape.dim, strict=True):
        if theirs.HasField("dim_value") or theirs.dim_param:
            mine.CopyFrom(theirs)


def _layout_notes(model: Any, inputs: Sequence[Port]) -> list[str]:
    """Marks the dimensions of images in ONNX's own words (dimension denotations), and tells the author."""
    notes = []
    for value in model.graph.input:
        port = next(port for port in inputs if port.name == value.name)
        if len(value.type.tensor_type.shape.dim) != _RANK_4:
            continue
        if port.as_nchw:
            words = ("DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE")
            notes.append(f"input {value.name!r} is NCHW, where the source takes NHWC")
        elif _is_image(model.graph, value.name):
            words = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")
            notes.append(f"input {value.name!r} is NHWC, as in the source; convert.with.inputs_as_nchw changes that")
        else:
            continue
        for dim, word in zip(value.type.tensor_type.shape.dim, words, strict=True):
            dim.denotation = word
    return notes


_KEEP_LAYOUT: Final = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Pad", "Add", "Sub", "Mul", "Div", "Clip", "Relu"}
)


def _is_image(graph: Any, name: str) -> bool:
    """Whether an input's last dimension becomes the channels of a convolution or pooling."""
    todo, seen = [name], {name}
    while todo:
        current = todo.pop()
        for node in graph.node:
            if current not in node.input:
                continue
            if node.op_type == "Transpose":
                perms = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
                if perms == [[0, 3, 1, 2]]:
                    return True
            elif node.op_type == "Reshape":
                # With one channel tf2onnx reshapes where it would have transposed.
                if any(next_.op_type == "Conv" and node.output[0] in next_.input for next_ in graph.node):
                    return True
            elif node.op_type in _KEEP_LAYOUT and node.output[0] not in seen:
                seen.add(node.output[0])
                todo.append(node.output[0])
    return False


def _open_notes(graph: Any) -> list[str]:
    names = sorted(
        {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param}
    )
    return [f"open dimensions: {', '.join(names)}"] if names else []


def save(model: Any, path: Path) -> Path:
    """Writes one file, or with external data beside it where one file cannot hold it."""
    import onnx

    if model.ByteSize() < _ONE_FILE_BYTES:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    return path
