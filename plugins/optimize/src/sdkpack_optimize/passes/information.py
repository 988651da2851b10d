"""What a model says about itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import ProtoPass, params_of
from sdkpack_optimize.files import ModelFile, graphs_of, tensors_of
from sdkpack_optimize.params import InformationParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto

__all__ = ["InformationPass"]

Which = Literal["foreign", "keep", "drop"]
_OWN: Final = ("", "ai.onnx", "ai.onnx.ml")
_LEGAL: Final = re.compile("licen[cs]|copyright|©", re.IGNORECASE)


class InformationPass(ProtoPass):
    """Drops texts, notes of exporters, types of values that are gone and unused imports of operator sets; names nodes.

    Requires: nothing. Ensures: every node has a name that no other node has; entries and texts about licences and
    copyright are as they were; so are the model's other entries, unless told otherwise.
    """

    must_shrink = False

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        return ""

    def edit(self, source: ModelFile, request: OptimizeRequest) -> tuple[ModelProto, tuple[str, ...]]:
        import onnx

        params: InformationParams = params_of(request, InformationParams)
        model = onnx.ModelProto()
        model.CopyFrom(source.proto)
        if params.docs == "drop":
            _drop_texts(model)
        if params.node_metadata == "drop":
            _drop_notes(model)
        if params.metadata == "licence":
            kept = [entry for entry in model.metadata_props if _LEGAL.search(entry.key)]
            del model.metadata_props[:]
            model.metadata_props.extend(kept)
        if params.producer == "drop":
            model.producer_name, model.producer_version = "", ""
        # Shapes around control flow are what the other passes' next round stands on: no library infers them anew.
        simple = not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
        which: Which = "keep" if params.shapes == "foreign" and not simple else params.shapes
        for graph in graphs_of(model):
            _keep_shapes(graph, which)
        _drop_imports(model)
        _name_nodes(model, everything=params.names == "all")
        return model, ()


def _drop_texts(model: ModelProto) -> None:
    for owner in _owners(model):
        if owner.doc_string and not _LEGAL.search(owner.doc_string):
            owner.ClearField("doc_string")


def _drop_notes(model: ModelProto) -> None:
    for owner in _owners(model):
        if owner is model or not owner.metadata_props:
            continue
        kept = [entry for entry in owner.metadata_props if _LEGAL.search(entry.key)]
        del owner.metadata_props[:]
        owner.metadata_props.extend(kept)


def _owners(model: ModelProto) -> Iterator[Any]:
    """Everything with a text and notes. Inputs and outputs keep theirs: they are for whoever uses the model."""
    yield model
    for graph in graphs_of(model):
        yield graph
        yield from graph.node
        yield from graph.value_info
    for function in model.functions:
        yield function
        yield from function.node
        yield from function.value_info
    yield from tensors_of(model)


def _keep_shapes(graph: GraphProto, which: Which) -> None:
    made = {name: node for node in graph.node for name in node.output}
    bound = {value.name for value in (*graph.input, *graph.output)}
    kept = [info for info in graph.value_info if info.name in made and info.name not in bound]
    if which == "foreign":
        kept = [info for info in kept if made[info.name].domain not in _OWN]
    del graph.value_info[:]
    graph.value_info.extend(kept if which != "drop" else ())


def _drop_imports(model: ModelProto) -> None:
    """Training graphs count; ONNX's own operators are always imported, since some readers expect them."""
    used = {"", "ai.onnx"} | {function.domain for function in model.functions}
    graphs = [*graphs_of(model)]
    for info in model.training_info:
        for root in (info.initialization, info.algorithm):
            graphs += _below(root)
    used |= {node.domain for graph in graphs for node in graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _below(root: GraphProto) -> list[GraphProto]:
    import onnx

    holder = onnx.ModelProto()
    holder.graph.CopyFrom(root)
    return list(graphs_of(holder))


def _name_nodes(model: ModelProto, *, everything: bool) -> None:
    nodes = [node for graph in graphs_of(model) for node in graph.node]
    taken: set[str] = set()
    unnamed = []
    for node in nodes:
        if everything or not node.name or node.name in taken:
            unnamed.append(node)
        else:
            taken.add(node.name)
    number = 0
    for node in unnamed:
        while (name := f"{node.op_type}_{number}") in taken:
            number += 1
        node.name = name
        taken.add(name)
        number += 1
