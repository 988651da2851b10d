"""Unpooling: values go back to where a MaxPool took them from."""

from __future__ import annotations

from typing import Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

__all__ = ["RULES"]


def modulo(scope: NodeScope) -> Blob:
    """Nothing, for places of a MaxPool modulo H * W: so Caffe counts them."""
    source = scope.producer(0)
    if source is not None and source.op == "MaxPool" and scope.node.inputs[0] == source.outputs[1]:
        shape = scope.program.tensors[source.inputs[0]].shape or ()
        plane = shape[2] * shape[3] if len(shape) == 4 else 0
        if scope.is_constant(1) and scope.constant(1, "divisors").ravel().tolist() == [plane]:
            return scope.bottom(0, integers=True, mask=True)
    raise NodeError("Caffe has no remainder", hint="cut the model before it: models.NAME.cut")


def max_unpool(scope: NodeScope) -> Blob:
    """Upsample with the places of a MaxPool (SegNet)."""
    source = scope.producer(1)
    if source is None or source.op != "MaxPool" or scope.node.inputs[1] != source.outputs[1]:
        raise NodeError("its places are not those of a MaxPool")
    own, planes = scope.program.tensors[source.inputs[0]].shape, scope.result()
    if own is None or own != planes or len(planes) != 4:
        raise NodeError("its result has another size than what the MaxPool took", got=str(list(planes)),
                        expected=str(list(own or ())))  # fmt: skip
    return _upsample(scope, scope.bottom(0), scope.bottom(1, integers=True, mask=True), planes[2], planes[3])


def scatter(scope: NodeScope) -> Blob:
    """Upsample with places (SegNet), for values that go into planes of zeros."""
    n, c, room = scope.shape(0, 3)
    axis = scope.axis(int(scope.attribute("axis", 0)), 3)
    if not scope.is_constant(0) or scope.constant(0, "planes").any() or axis != 2:
        raise NodeError("only values put into planes of zeros along the last axis have a layer")
    if scope.attribute("reduction", "none") != "none" or scope.shape(1)[:2] != (n, c):
        raise NodeError("values that meet have no layer", got=str(scope.attribute("reduction", "none")))
    count = scope.shape(1)[2]
    value, mask = (scope.reshape(scope.bottom(at, integers=at == 1), (n, c, count, 1)) for at in (2, 1))
    return scope.reshape(_upsample(scope, value, mask, room, 1), (n, c, room))


def _upsample(scope: NodeScope, value: Blob, mask: Blob, height: int, width: int) -> Blob:
    fields = {"upsample_h": height, "upsample_w": width}
    return scope.add("Upsample", [value, mask], (*value.shape[:2], height, width), "unpooled", upsample_param=fields)


RULES: Final[NodeRules] = {"MaxUnpool": max_unpool, "Mod": modulo, "ScatterElements": scatter}
