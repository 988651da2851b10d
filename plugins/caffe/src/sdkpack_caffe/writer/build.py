"""From an ONNX file to the text of a prototxt and the bytes of a caffemodel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sdkpack.errors import ModelError, Problem
from sdkpack.types import TensorSpec
from sdkpack_caffe.network import blob_shapes
from sdkpack_caffe.params import CaffeWriterParams
from sdkpack_caffe.writer.draft import Blob, Draft, DraftLayer, NodeError
from sdkpack_caffe.writer.files import Written, render
from sdkpack_caffe.writer.hints import hint_for
from sdkpack_caffe.writer.operators import node_rules
from sdkpack_caffe.writer.patterns import join
from sdkpack_caffe.writer.program import Program, fold
from sdkpack_caffe.writer.scope import NodeScope
from sdkpack_caffe.writer.source import FLOATS, Node, read_source
from sdkpack_caffe.writer.tidy import tidy

__all__ = ["check_sizes", "write_network"]

_SHAPING: Final = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""Operators that only move values: whole numbers stay whole."""


def write_network(
    source: Path, params: CaffeWriterParams, *, declared: Iterable[TensorSpec] = (), name: str = ""
) -> Written:
    """The two files, and what their user should know.

    Args:
        declared: inputs as the author declares them; `params.shapes` wins.

    Raises:
        ModelError: no ONNX, open shapes, or nodes that Caffe cannot express; all that is wrong is told at once.
    """
    shapes: dict[str, tuple[int | str, ...]] = {spec.name: spec.shape for spec in declared}
    model = read_source(source, shapes | dict(params.shapes))
    program = fold(model)
    outputs = [program.resolve(output) for output in model.outputs]
    join(program, outputs)
    draft = Draft(without=frozenset(params.without), floor_pooling=params.floor_pooling, notes=list(model.notes))
    blobs: dict[str, Blob] = {}
    for input_name, (_, shape) in model.inputs.items():
        blobs[input_name] = Blob(name=input_name, shape=shape)
        draft.inputs.append(blobs[input_name])
    problems = _walk(program, draft, blobs)
    ends = _ends(program, draft, blobs, problems) if not problems else []
    if problems:
        _refuse(problems, source.name)
    ends = tidy(draft, ends)
    for blob in draft.inputs:
        if not draft.consumers(blob) and not any(blob is end for end in ends):
            draft.note(f"input {blob.name!r} is not used")
            # Else it would be an output of the network.
            draft.layers.append(DraftLayer("Silence", [blob], [], {}))
    _name_outputs(draft, ends, list(model.outputs))
    return render(draft, name=model.name or name or source.stem, where=source.name)


def check_sizes(prototxt: Path, caffemodel: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Reads what was written by Caffe's rules: every blob must have the size that ONNX gives it.

    Raises:
        ModelError: one has another, which is an error of this converter.
    """
    found = blob_shapes(prototxt, caffemodel)
    for name, shape in shapes.items():
        if found.get(name, ()) not in (shape, None):
            raise ModelError(f"blob {name!r} has the shape {list(shape)} in ONNX and {found.get(name)} in Caffe",
                             where=prototxt.name)  # fmt: skip


def _walk(program: Program, draft: Draft, blobs: dict[str, Blob]) -> list[Problem]:
    """Writes node by node, and goes on after one that cannot be written as far as shapes are known."""
    problems: list[Problem] = []
    broken: set[str] = set()
    for node in program.nodes:
        rule = node_rules().get(node.op) if not node.domain else None
        if rule is None or (node.op.startswith("caffe.") and node.proto.op_type == node.op):
            problems.append(_unknown(node))
            broken.update(node.outputs)
            continue
        fault = program.faults.get(next((name for name in node.outputs if name), ""))
        if fault is not None:
            problems.append(Problem(path=node.label, message=f"{node.op}: the node is wrong: {fault}"))
            broken.update(node.outputs)
            continue
        scope = NodeScope(program=program, draft=draft, node=node, blobs=blobs)
        before = len(draft.layers)
        try:
            found = rule(scope)
            results = [found] if isinstance(found, Blob) else list(found)
            _keep(scope, results, {id(top) for layer in draft.layers[before:] for top in layer.tops})
        except NodeError as error:
            # What lacks because of a node before it is no fault of this one.
            if not broken.intersection(node.inputs) or not error.follows:
                problems.append(Problem(path=node.label, message=f"{node.op}: {error.message}", got=error.got,
                                        expected=error.expected, hint=error.hint))  # fmt: skip
            broken.update(node.outputs)
        except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
            # ONNX's checks leave some settings to whoever reads them: a list that is too short, a missing attribute.
            if not broken.intersection(node.inputs):
                problems.append(Problem(path=node.label, message=f"{node.op}: its settings make no sense",
                                        got=f"{type(error).__name__}: {error}"[:200]))  # fmt: skip
            broken.update(node.outputs)
    return problems


def _unknown(node: Node) -> Problem:
    kind = f"{node.domain}.{node.op}" if node.domain else node.op
    return Problem(path=node.label, message="no layer of Caffe computes it", got=kind,
                   hint=hint_for(node.op, node.domain))  # fmt: skip


def _keep(scope: NodeScope, results: Sequence[Blob | None], own: set[int]) -> None:
    """Notes the results, once they have the sizes that ONNX works out; the node's own blobs get their names."""
    node, program = scope.node, scope.program
    whole = node.op in _SHAPING and all(
        name in program.whole or (name in program.tensors and program.tensors[name].kind not in FLOATS)
        for name in node.inputs[:1]
    )
    for number, (name, blob) in enumerate(zip(node.outputs, results, strict=False)):
        if not name or blob is None:
            continue
        # Caffe, too, gives detections one row until they are computed.
        expected = blob.shape if node.op == "caffe.DetectionOutput" else scope.result(number)
        if blob.shape != expected:
            raise NodeError("Caffe makes another size of it", got=str(list(blob.shape)), expected=str(list(expected)))
        scope.blobs[name] = blob
        if id(blob) in own:
            blob.name = name
        if whole:
            program.whole.add(name)
        if node.op == "MaxPool" and number == 1:
            program.masks.add(name)


def _ends(program: Program, draft: Draft, blobs: dict[str, Blob], problems: list[Problem]) -> list[Blob]:
    """The blob of each output; one that is a constant becomes a blob."""
    ends = []
    for name in program.source.outputs:
        own = program.resolve(name)
        tensor = program.tensors.get(own)
        try:
            if tensor is not None and tensor.constant is not None and own not in blobs:
                draft.note(f"output {name!r} does not depend on the inputs")
                ends.append(draft.constant(tensor.constant, name))
            elif own in program.masks:
                problems.append(
                    Problem(path=name, message="an output of places in a MaxPool counts otherwise in Caffe")
                )
            elif own not in blobs:
                problems.append(Problem(path=name, message="nothing computes this output"))
            else:
                ends.append(blobs[own])
        except (NodeError, ValueError) as error:
            problems.append(Problem(path=name, message=str(error)))
        kind = program.source.outputs[name] or (tensor.kind if tensor is not None else 0)
        if kind not in (0, 1):
            draft.note(f"output {name!r} is float32 in Caffe, as everything is there")
    return ends


def _refuse(problems: Sequence[Problem], where: str) -> None:
    kinds = sorted({problem.got for problem in problems if problem.message == "no layer of Caffe computes it"})
    found = len({problem.path for problem in problems})
    count = "one node has" if found == 1 else f"{found} nodes have"
    what = f"{count} no form in Caffe" + (f"; operators without a layer: {', '.join(kinds)}" if kinds else "")
    hint = next((problem.hint for problem in problems if problem.hint), "sdkpack plugins show caffe.writer")
    raise ModelError(what, hint=hint, where=where, problems=problems)


def _name_outputs(draft: Draft, ends: Sequence[Blob], names: Sequence[str]) -> None:
    """Gives each output a blob of its name, made by a layer of that name, that no other layer takes, in their order.

    What a layer takes is no output in Caffe, OpenCV finds outputs by the names of layers, and readers list outputs in
    the order of layers.
    """
    inputs = {id(blob) for blob in draft.inputs}
    alone = {id(layer.tops[0]): layer for layer in draft.layers if len(layer.tops) == 1}
    taken = {blob.name for blob in draft.inputs}
    makers = []
    for blob, name in zip(ends, names, strict=True):
        own = name
        if name in taken:
            own = f"{name}_out"
            draft.note(f"{name!r} is input and output: the output is called {own!r}")
        twice = sum(other is blob for other in ends) > 1
        if id(blob) in alone and not twice and not draft.consumers(blob):
            blob.name = own
            makers.append(alone.pop(id(blob)))
            continue
        if id(blob) not in inputs and blob.name == name:
            blob.name = f"{name}_inner"
        copy = Blob(name=own, shape=blob.shape)
        makers.append(DraftLayer("Split" if draft.allows("Split") else "Power", [blob], [copy], {}))
        draft.layers.append(makers[-1])
    places = [draft.layers.index(layer) for layer in makers]
    if places != sorted(places):
        # Nothing takes what these layers make, so they may stand last.
        draft.layers[:] = [layer for layer in draft.layers if layer not in makers] + makers
