"""Structural checks of a model: our own, then ONNX's checker on the split graph.

ONNX's checker opens external files, follows hard links, and wants all weights in one message, so it never sees the
model itself: it gets the graph of the split, in which every moved initializer is declared as an input instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.errors import GraphError
from sdkpack.model.elements import ELEMENT_BY_NAME
from sdkpack.model.external import ExternalFolder, resolve_all
from sdkpack.model.split import SplitModel, check_tensors
from sdkpack.model.walk import iter_graphs

if TYPE_CHECKING:
    from onnx import ModelProto

    from sdkpack.model.load import LoadedModel

__all__ = ["check_model", "check_split"]


def check_model(model: LoadedModel, folder: ExternalFolder) -> None:
    """Checks what does not need the split: external data, tensor sizes, names.

    Raises:
        ExternalDataError: external data is refused.
        GraphError: a rule of ONNX is broken.
        ModelError: a tensor's data does not fit its type and shape.
    """
    resolve_all(model.proto, folder)
    check_tensors(model.proto)
    graph = model.proto.graph
    if not graph.output:
        raise GraphError("the graph has no outputs", where=model.name, hint="export the model again")
    for where, inner in iter_graphs(model.proto):
        _unique(f"{where}: input", [value.name for value in inner.input], model.name)
        _unique(f"{where}: initializer", [tensor.name for tensor in inner.initializer], model.name)
    _unique("graph: output", [value.name for value in graph.output], model.name)


def check_split(split: SplitModel, *, name: str = "model") -> None:
    """Runs ONNX's checker: operators exist in their opset, attributes fit, values are assigned once and before use.

    Raises:
        GraphError: it found something; its message names node and value.
    """
    import onnx

    proto = _with_inputs_for_weights(split)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise GraphError(
            f"the graph breaks a rule of ONNX: {text[:600]}", where=name, hint="export the model again"
        ) from None


def _with_inputs_for_weights(split: SplitModel) -> ModelProto:
    from onnx import ModelProto, helper

    proto = ModelProto()
    proto.ParseFromString(split.graph)
    declared = {value.name for value in proto.graph.input}
    for entry in split.tensors:
        if entry.name not in declared:
            proto.graph.input.append(
                helper.make_tensor_value_info(entry.name, ELEMENT_BY_NAME[entry.dtype].code, entry.shape)
            )
    return proto


def _unique(what: str, names: list[str], model: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise GraphError(f"{what} without a name", where=model, hint="export the model again")
        if name in seen:
            raise GraphError(f"{what} {name!r} stands twice", where=model, hint="export the model again")
        seen.add(name)
