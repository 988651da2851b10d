"""Reads an ONNX model for the writer: nodes, weights, inputs with fixed shapes."""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ExternalDataError, ModelError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLOATS", "MAX_WEIGHTS", "Node", "Source", "as_float32", "read_node", "read_source"]

MAX_WEIGHTS: Final = (1 << 31) - 1
"""Bytes: a caffemodel is one protocol buffer message and cannot be larger."""
_MAX_NODES: Final = 100_000
FLOATS: Final = (1, 10, 11, 16)
"""float32, float16, float64, bfloat16: what can stand as Caffe's float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator of the model; an empty name stands for an input or output that is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    proto: Any = None

    @property
    def label(self) -> str:
        """For messages: nodes need not have names, their results do."""
        return self.name or next((name for name in self.outputs if name), self.op)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The model as it stands in the file, local functions written out."""

    name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, tuple[int, tuple[int, ...]]]
    """Element type and shape of each input that is no weight."""
    outputs: Mapping[str, int]
    """Element type of each output, 0 where the model does not say."""
    opsets: Mapping[str, int]
    notes: tuple[str, ...] = ()


def read_source(path: Path, shapes: Mapping[str, tuple[int | str, ...]]) -> Source:
    """Reads the model and fixes the shapes of its inputs.

    Args:
        shapes: of inputs, in place of the model's; sizes the model fixes itself must agree.

    Raises:
        ModelError: no ONNX, inputs without a fixed shape or of a type that Caffe does not know, weights of 2 GiB.
    """
    from onnx import inliner

    model = _load(path)
    if model.training_info:
        raise ModelError("the model carries a training graph", where=path.name,
                         hint="save it for inference: without training_info")  # fmt: skip
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"the model's local functions cannot be written out: {_line(error)}",
                             where=path.name) from error  # fmt: skip
    graph = model.graph
    if len(graph.node) > _MAX_NODES:
        raise ModelError(f"the model has {len(graph.node)} nodes, at most {_MAX_NODES} are read", where=path.name)
    if graph.sparse_initializer:
        raise ModelError("the model has sparse weights, which Caffe does not know", where=path.name,
                         hint="store them as dense initializers")  # fmt: skip
    _check_names(graph, path)
    _check_order(graph, path)
    weights = _weights(graph, path)
    inputs, notes = _inputs(graph, weights, shapes, path)
    return Source(
        name=graph.name, nodes=tuple(read_node(node) for node in graph.node), constants=weights, inputs=inputs,
        outputs={value.name: value.type.tensor_type.elem_type for value in graph.output}, notes=tuple(notes),
        opsets={entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in model.opset_import},
    )  # fmt: skip


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ModelError("the ONNX model is no file", where=path.name)
    if path.stat().st_size > MAX_WEIGHTS:
        raise ModelError(f"the file has {path.stat().st_size} bytes, at most {MAX_WEIGHTS} are read", where=path.name)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise ModelError("the file is no ONNX model, damaged or truncated", where=path.name) from error
    if not model.graph.node and not model.graph.output:
        raise ModelError("the file is no ONNX model: it has no graph", where=path.name)
    return model


def _check_names(graph: Any, path: Path) -> None:
    """Protobuf hands out text that is no UTF-8 as bytes, which nothing behind expects."""
    texts = [text for node in graph.node for text in (node.op_type, node.domain, node.name, *node.input, *node.output)]
    texts += [graph.name, *(entry.name for entry in (*graph.input, *graph.output, *graph.initializer))]
    texts += [entry.name for node in graph.node for entry in node.attribute]
    odd = next((text for text in texts if isinstance(text, bytes)), None)
    if odd is not None:
        raise ModelError(f"a name in the model is no UTF-8: {odd[:40]!r}", where=path.name)


def _check_order(graph: Any, path: Path) -> None:
    """Every value is made once, and before it is taken: what follows values upwards ends."""
    made = {entry.name for entry in (*graph.input, *graph.initializer)} | {""}
    for node in graph.node:
        lacking = next((name for name in node.input if name not in made), None)
        again = next((name for name in node.output if name and name in made), None)
        who = f"node {node.name or node.op_type!r} ({node.op_type})"
        if lacking is not None:
            raise ModelError(f"{who} takes {lacking!r}, which nothing before it makes", where=path.name)
        if again is not None:
            raise ModelError(f"{who} makes {again!r} a second time", where=path.name)
        made.update(node.output)
    missing = next((value.name for value in graph.output if value.name not in made), None)
    if missing is not None:
        raise ModelError(f"nothing makes the output {missing!r}", where=path.name)


def read_node(proto: Any) -> Node:
    from onnx import helper

    attributes = {entry.name: helper.get_attribute_value(entry) for entry in proto.attribute}
    return Node(
        op=proto.op_type, name=proto.name, inputs=tuple(proto.input), outputs=tuple(proto.output),
        attributes={name: value.decode(errors="replace") if isinstance(value, bytes) else value
                    for name, value in attributes.items()},
        domain="" if proto.domain == "ai.onnx" else proto.domain, proto=proto,
    )  # fmt: skip


def _weights(graph: Any, path: Path) -> dict[str, NDArray[Any]]:
    """Initializers as arrays; their sizes are added up before any is read."""
    from onnx import numpy_helper

    total = 0
    for tensor in graph.initializer:
        total += math.prod(tensor.dims) * 4
        if total > MAX_WEIGHTS or any(dim < 0 for dim in tensor.dims):
            raise ModelError(
                f"the weights have more than {MAX_WEIGHTS} bytes in float32, and a caffemodel cannot be larger",
                hint="convert a smaller model, or cut it in two: models.NAME.cut", where=path.name,
            )  # fmt: skip
    found = {}
    for tensor in graph.initializer:
        if tensor.data_location == 1:
            _fetch(tensor, path)
        try:
            found[tensor.name] = as_float32(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"initializer {tensor.name!r} cannot be read: {_line(error)}", where=path.name) from error
    return found


def as_float32(array: NDArray[Any]) -> NDArray[Any]:
    """Floats of any size as float32, as everything is in Caffe; other types as they are."""
    import numpy as np

    # bfloat16 is a type of ml_dtypes, which NumPy does not count among floats.
    return array.astype(np.float32) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def _fetch(tensor: Any, path: Path) -> None:
    """Reads external data from a plain file beside the model and nowhere else: the model chooses the location."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    place, name = facts.get("location", ""), tensor.name
    try:
        offset, length = int(facts.get("offset", "0")), int(facts.get("length", "-1"))
    except ValueError as error:
        raise ExternalDataError(f"external data of {name!r}: offset and length are numbers", where=path.name) from error
    if not place or place in (".", "..") or any(sign in place for sign in "/\\\0"):
        raise ExternalDataError(f"external data of {name!r} lies in another folder: {place!r}", where=path.name,
                                hint="keep it beside the model")  # fmt: skip
    file = path.parent / place
    try:
        facts_of = file.lstat()
    except OSError as error:
        raise ExternalDataError(f"external data of {name!r} is missing: {place!r}", where=path.name) from error
    if not stat.S_ISREG(facts_of.st_mode) or facts_of.st_nlink != 1:
        raise ExternalDataError(f"external data of {name!r} is no plain file: {place!r}", where=path.name)
    length = facts_of.st_size - offset if length < 0 else length
    if offset < 0 or length < 0 or offset + length > facts_of.st_size:
        raise ExternalDataError(f"external data of {name!r} reaches past its file", where=path.name)
    with file.open("rb") as content:
        content.seek(offset)
        tensor.raw_data = content.read(length)
    tensor.data_location = 0
    del tensor.external_data[:]


def _inputs(
    graph: Any, weights: Mapping[str, Any], shapes: Mapping[str, tuple[int | str, ...]], path: Path
) -> tuple[dict[str, tuple[int, tuple[int, ...]]], list[str]]:
    """Element types and shapes; what is not fixed is told for all inputs at once."""
    values = [value for value in graph.input if value.name not in weights]
    unknown = sorted(set(shapes) - {value.name for value in values})
    if unknown:
        names = ", ".join(repr(value.name) for value in values)
        raise ModelError(f"the model has no input {unknown[0]!r}", hint=f"its inputs are {names}", where=path.name)
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    problems, notes = [], []
    for value in values:
        kind = value.type.tensor_type
        own = _declared(kind) if kind.HasField("shape") else None
        wanted = shapes.get(value.name, own or ())
        problem = _check_input(value, own, wanted)
        if problem:
            problems.append(problem)
            continue
        found[value.name] = (1 if kind.elem_type in FLOATS else kind.elem_type, tuple(int(size) for size in wanted))
        if kind.elem_type != 1:
            notes.append(f"input {value.name!r} is float32 in Caffe, as everything is there")
    if problems:
        first = problems[0].path
        example = list(
            _example(shapes.get(first) or next(_declared(v.type.tensor_type) for v in values if v.name == first))
        )
        raise ModelError(
            "Caffe needs inputs of fixed shapes" if len(problems) > 1 else f"input {first!r} cannot be one of Caffe's",
            hint=f"set them: convert.with.shapes = {{ {_toml_key(first)} = {example} }}", where=path.name,
            problems=problems,
        )  # fmt: skip
    return found, notes


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _declared(kind: Any) -> tuple[int | str, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim)


def _example(shape: tuple[int | str, ...]) -> list[int]:
    """A shape to put into the hint: 1 for an open batch, 224 for other open sizes."""
    return [size if isinstance(size, int) and size > 0 else 224 if axis else 1 for axis, size in enumerate(shape)]


def _check_input(value: Any, own: tuple[int | str, ...] | None, wanted: tuple[int | str, ...]) -> Problem | None:
    kind, name = value.type.tensor_type, value.name
    if not value.type.HasField("tensor_type"):
        return Problem(path=name, message="only tensors can be inputs of a Caffe network")
    if kind.elem_type not in (*FLOATS, 6, 7):
        from onnx import TensorProto

        known = {number: word for word, number in TensorProto.DataType.items()}
        return Problem(path=name, message="no element type of Caffe", got=known.get(kind.elem_type, "unknown"),
                       expected="float32", hint="take quantization and casts out of the model first")  # fmt: skip
    if any(not isinstance(size, int) or size < 1 for size in wanted) or (own is None and not wanted):
        return Problem(path=name, message="its shape is not fixed", got=str(list(wanted)), expected="numbers")
    if own is not None and (
        len(own) != len(wanted)
        or any(isinstance(size, int) and size > 0 and size != new for size, new in zip(own, wanted, strict=True))
    ):
        return Problem(path=name, message="the model has another shape", got=str(list(wanted)), expected=str(list(own)))
    return None
