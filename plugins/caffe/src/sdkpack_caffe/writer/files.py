"""The two files: names, text and bytes, the same for the same network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.schema import network_class
from sdkpack_caffe.writer.draft import Draft, DraftLayer
from sdkpack_caffe.writer.source import MAX_WEIGHTS

__all__ = ["Written", "fill", "render"]

_ODD: Final = re.compile(r"[^A-Za-z0-9_./-]")
"""Signs that readers of prototxt files split names at, or cannot hold in a file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The network in Caffe's form."""

    prototxt: str
    caffemodel: bytes
    shapes: Mapping[str, tuple[int, ...]]
    """Of each blob."""
    notes: tuple[str, ...]


def render(draft: Draft, *, name: str, where: str) -> Written:
    """Text and bytes. A layer bears the name of its first top, and tops bear the names of the model's values.

    Raises:
        ModelError: the weights have 2 GiB.
    """
    from google.protobuf import text_format

    size = sum(array.nbytes for layer in draft.layers for array in layer.weights)
    if size > MAX_WEIGHTS:
        raise ModelError(f"the weights have {size} bytes, and a caffemodel cannot have more than {MAX_WEIGHTS}",
                         hint="cut the model in two: models.NAME.cut", where=where)  # fmt: skip
    _name_blobs(draft)
    net = network_class()(name=_ODD.sub("_", name))
    for blob in draft.inputs:
        entry = net.layer.add(name=blob.name, type="Input", top=[blob.name])
        entry.input_param.shape.add(dim=blob.shape)
    used: set[str] = {blob.name for blob in draft.inputs}
    for layer in draft.layers:
        label = _unique(layer.tops[0].name if layer.tops else f"{layer.bottoms[0].name}_silence", used)
        entry = net.layer.add(name=label, type=layer.type, bottom=[blob.name for blob in layer.bottoms],
                              top=[blob.name for blob in layer.tops])  # fmt: skip
        for message, values in layer.settings.items():
            target = getattr(entry, message)
            target.SetInParent()
            fill(target, values)
    text = text_format.MessageToString(net)
    for entry, layer in zip(net.layer[len(draft.inputs) :], draft.layers, strict=True):
        _add_weights(entry, layer)
    shapes = {blob.name: blob.shape for layer in draft.layers for blob in layer.tops}
    content = bytes(net.SerializeToString(deterministic=True))
    return Written(prototxt=text, caffemodel=content, shapes=shapes, notes=tuple(draft.notes))


def fill(message: Any, values: Mapping[str, Any]) -> None:
    """Sets fields by name: numbers, names of enumerated values, lists, messages."""
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, Mapping):
            part = getattr(message, name)
            part.SetInParent()
            fill(part, value)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        elif isinstance(value, str) and field.enum_type is not None:
            setattr(message, name, field.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value)


def _add_weights(entry: Any, layer: DraftLayer) -> None:
    for array in layer.weights:
        blob = entry.blobs.add()
        # A message of its own for each blob, merged: the library would take numbers one by one.
        content = array.astype("<f4").tobytes()
        blob.MergeFromString(b"\x2a" + _varint(len(content)) + content)
        blob.shape.SetInParent()
        blob.shape.dim.extend(array.shape)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _name_blobs(draft: Draft) -> None:
    """Names that every reader takes, each once: inputs and outputs choose first."""
    taken = {id(blob) for layer in draft.layers for blob in layer.bottoms}
    tops = [blob for layer in draft.layers for blob in layer.tops]
    ends = [blob for blob in tops if id(blob) not in taken]
    used: set[str] = set()
    changed = []
    for group, outer in ((draft.inputs, True), (ends, True), ([blob for blob in tops if id(blob) in taken], False)):
        for blob in group:
            old = blob.name
            blob.name = _unique(_ODD.sub("_", old) or "blob", used)
            if blob.name != old and outer:
                kind = "input" if group is draft.inputs else "output"
                draft.note(f"{kind} {old!r} is called {blob.name!r}")
            elif blob.name != old and _ODD.search(old):
                changed.append(old)
    if changed:
        more = " and others" if len(changed) > 1 else ""
        draft.note(f"{len(changed)} inner names have signs that readers of prototxt files do not take, and '_' in "
                   f"their place: {changed[0]!r}{more}")  # fmt: skip


def _unique(wanted: str, used: set[str]) -> str:
    name, number = wanted, 1
    while name in used:
        number += 1
        name = f"{wanted}_{number}"
    used.add(name)
    return name
