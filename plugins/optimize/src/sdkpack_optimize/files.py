"""Reads and writes ONNX files: the same bytes for the same model, external data left on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError, StepError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, TensorProto

__all__ = ["LIMIT_BYTES", "ModelFile", "graphs_of", "node_lists_of", "read_model", "tensors_of", "write_model"]

LIMIT_BYTES: Final = 2**31 - 2**20
"""protobuf messages end at 2 GiB."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model without its external data, and the folder where that stands."""

    proto: ModelProto
    folder: Path
    external: tuple[str, ...]
    """File names of external data, sorted."""


def read_model(path: Path) -> ModelFile:
    """Loads a model; external data stays where it is.

    Raises:
        ModelError: it is no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model(path, load_external_data=False, format="protobuf")
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name!r} is no ONNX model: {error}", hint="load it with onnx.load to see more"
        ) from error
    if not proto.HasField("graph"):
        raise ModelError(f"{path.name!r} is no ONNX model: it has no graph", hint="export it again")
    return ModelFile(proto, path.parent, tuple(sorted(set(_locations(proto)))))


def write_model(proto: ModelProto, work: Path) -> Path:
    """Writes `model.onnx`. External data that it still names stays where it is: no pass changes any.

    Raises:
        StepError: what stands in the model itself has outgrown protobuf.
    """
    from google.protobuf.message import EncodeError

    try:
        content = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise StepError(f"the optimised model cannot be written: {error}", hint="leave this pass out") from error
    if len(content) > LIMIT_BYTES:
        raise StepError("the optimised model is beyond the 2 GiB of protobuf", hint="leave this pass out")
    path = work / "model.onnx"
    path.write_bytes(content)
    return path


def graphs_of(proto: ModelProto) -> Iterator[GraphProto]:
    """The main graph and all below it; functions apart."""
    stack = [proto.graph]
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)


def node_lists_of(proto: ModelProto) -> Iterator[Any]:
    """The nodes of each graph and function."""
    for graph in graphs_of(proto):
        yield graph.node
    for function in proto.functions:
        yield function.node


def tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    """Initializers and the values of constants, of all graphs and functions."""
    for graph in graphs_of(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    for nodes in node_lists_of(proto):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _locations(proto: ModelProto) -> Iterator[str]:
    for tensor in tensors_of(proto):
        if tensor.data_location == tensor.EXTERNAL:
            yield from (entry.value for entry in tensor.external_data if entry.key == "location")
