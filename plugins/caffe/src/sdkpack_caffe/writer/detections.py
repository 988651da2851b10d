"""Finds a DetectionOutput again where this plugin's reader wrote one out as ONNX.

Its thirty operators are not matched one by one: the settings are guessed from a few of them, the reader writes the
layer with these out once more, and only where every node and constant is the same is it that layer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from sdkpack_caffe.graph import Graph, LayerError, Scope, Value
from sdkpack_caffe.prototxt import Layer
from sdkpack_caffe.writer.program import Program, fold
from sdkpack_caffe.writer.source import Node, Source, read_node

__all__ = ["find_detections"]

_CODES: Final = ("CENTER_SIZE", "CORNER", "CORNER_SIZE")
_MOST_GUESSES: Final = 60
"""Each is written out; a model may hold any number of constants that could be priors."""
_OPSETS: Final = range(13, 22)


def find_detections(program: Program, makers: Mapping[str, Node], node: Node) -> Node | None:
    """The layer whose result a Reshape to (1, 1, M, 7) is, with its two computed bottoms as inputs."""
    if node.op != "Reshape" or program.opset not in _OPSETS:
        return None
    shape = program.constant(node.inputs[1])
    if shape is None or shape.tolist() != [1, 1, -1, 7]:
        return None
    above = _ancestors(makers, node.inputs[0])
    suppress = next((entry for entry in above if entry.op == "NonMaxSuppression"), None)
    turned = {tuple(entry.attributes.get("perm", ())): makers.get(entry.inputs[0])
              for entry in above if entry.op == "Transpose"}  # fmt: skip
    scores, offsets = turned.get((0, 2, 1)), turned.get((0, 2, 1, 3))
    if suppress is None or scores is None or offsets is None:
        return None
    bottoms = (offsets.inputs[0], scores.inputs[0])
    own = _digest(program, makers, node.outputs[0], dict(zip(bottoms, "ab", strict=True)))
    for fields, priors in islice(_guesses(program, makers, suppress, above, bottoms), _MOST_GUESSES):
        found = _written_out(program, fields, priors, bottoms)
        if found == own:
            return Node(op="caffe.DetectionOutput", name=node.name, inputs=bottoms, outputs=node.outputs,
                        attributes={"fields": fields, "priors": priors}, proto=node.proto)  # fmt: skip
    return None


def _ancestors(makers: Mapping[str, Node], name: str) -> list[Node]:
    """All nodes that a value is made by, each once."""
    found: dict[int, Node] = {}
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            waiting += [entry for entry in node.inputs if entry]
    return list(found.values())


def _guesses(
    program: Program, makers: Mapping[str, Node], suppress: Node, above: list[Node], bottoms: tuple[str, str]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Settings that may be the layer's, and its priors."""
    sizes = [program.tensors[name].shape or () for name in bottoms]
    per_image = [math.prod(size[1:]) for size in sizes]
    top = makers.get(makers[suppress.inputs[1]].inputs[0])
    kept = program.constant(makers[top.inputs[0]].inputs[1]) if top is not None else None
    most = program.constant(suppress.inputs[2])
    threshold = program.constant(suppress.inputs[3])
    if kept is None or most is None or threshold is None:
        return
    limits = [program.constant(entry.inputs[1]) for entry in above if entry.op == "Min"]
    for name, tensor in program.tensors.items():
        priors = tensor.constant
        if priors is None or priors.ndim != 3 or priors.shape[:2] != (1, 2) or priors.shape[2] % 4:
            continue
        boxes = priors.shape[2] // 4
        if not boxes or per_image[1] % boxes or per_image[0] % (4 * boxes) or not name:
            continue
        classes = per_image[1] // boxes
        background = sorted(set(range(classes)) - set(kept.tolist())) or [-1]
        nms: dict[str, Any] = {"nms_threshold": float(threshold.ravel()[0])}
        if int(most.ravel()[0]) < boxes:
            nms["top_k"] = int(most.ravel()[0])
        fields: dict[str, Any] = {"num_classes": classes, "share_location": per_image[0] == 4 * boxes,
                                  "background_label_id": background[0], "keep_top_k": -1, "nms_param": nms}  # fmt: skip
        if limits and limits[0] is not None:
            fields["keep_top_k"] = int(limits[0].ravel()[0])
        if len(suppress.inputs) > 4 and program.constant(suppress.inputs[4]) is not None:
            fields["confidence_threshold"] = float(program.tensors[suppress.inputs[4]].constant.ravel()[0])
        for code in _CODES:
            for encoded in (False, True):
                yield {**fields, "code_type": code, "variance_encoded_in_target": encoded}, priors


def _written_out(program: Program, fields: Mapping[str, Any], priors: Any, bottoms: tuple[str, str]) -> bytes | None:
    """What the reader makes of the layer, as a digest."""
    from sdkpack_caffe.layers.detections import detection_output
    from sdkpack_caffe.schema import network_class
    from sdkpack_caffe.writer.files import fill

    entry = network_class()().layer.add(name="it", type="DetectionOutput")
    fill(entry.detection_output_param, fields)
    layer = Layer(name="it", type="DetectionOutput", bottoms=("a", "b", "p"), tops=("out",), fields=entry)
    graph = Graph(opset=program.opset)
    graph.reserve(["a", "b", "p"])
    graph.constants["p"] = priors
    shapes = {letter: program.tensors[name].shape or () for letter, name in zip("ab", bottoms, strict=True)}
    values = (*(Value(name=letter, shape=shape) for letter, shape in shapes.items()),
              Value(name="p", shape=priors.shape, constant=priors))  # fmt: skip
    try:
        (result,) = detection_output(Scope(graph=graph, layer=layer, inputs=values))
    except LayerError:
        return None
    source = Source(
        name="it", nodes=tuple(map(read_node, graph.nodes)), constants=graph.constants, outputs={result.name: 1},
        inputs={letter: (1, shape) for letter, shape in shapes.items()}, opsets={"": program.opset},
    )  # fmt: skip
    folded = fold(source)
    makers = {name: node for node in folded.nodes for name in node.outputs if name}
    return _digest(folded, makers, result.name, {"a": "a", "b": "b"})


def _digest(program: Program, makers: Mapping[str, Node], name: str, ends: Mapping[str, str]) -> bytes:
    """Of a value: of all nodes and constants that make it, whatever their names, down to `ends`."""
    known: dict[str, bytes] = {}
    order = [name]
    while order:
        at = order[-1]
        node = makers.get(at)
        if at in known:
            order.pop()
        elif at in ends or node is None or program.constant(at) is not None:
            constant = program.constant(at)
            text = f"end {ends.get(at, at if constant is None else '')}".encode()
            if constant is not None and at not in ends:
                text = f"{constant.dtype} {constant.shape}".encode() + constant.tobytes()
            known[at] = hashlib.sha256(text).digest()
            order.pop()
        else:
            missing = [entry for entry in node.inputs if entry and entry not in known]
            if missing:
                order += missing
                continue
            own = [node.op, str(node.outputs.index(at)), repr(sorted(node.attributes.items()))]
            inputs = b"".join(known[entry] if entry else b"-" for entry in node.inputs)
            known[at] = hashlib.sha256("\0".join(own).encode() + inputs).digest()
            order.pop()
    return known[name]
