"""Message classes made from the tables of fields, without a protocol compiler."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sdkpack_caffe.fields import ENUMS, MESSAGES, WEIGHT_MESSAGES

__all__ = ["network_class", "weights_class"]

_TYPES: Final = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}
"""Numbers of scalar types in FieldDescriptorProto."""
_MESSAGE, _ENUM = 11, 14
_OPTIONAL, _REPEATED = 1, 3


@cache
def network_class() -> Any:
    """`NetParameter` with every field that a prototxt may have."""
    return _classes("sdkpack.caffe.net", MESSAGES, ENUMS)["sdkpack.caffe.net.NetParameter"]


@cache
def weights_class() -> Any:
    """`NetParameter` with names and blobs alone."""
    return _classes("sdkpack.caffe.weights", WEIGHT_MESSAGES, {})["sdkpack.caffe.weights.NetParameter"]


def _classes(package: str, messages: Mapping[str, str], enums: Mapping[str, str]) -> Mapping[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    rows = {name: file.message_type.add(name=name) for name in messages}
    for name, values in enums.items():
        owner, _, own = name.rpartition(".")
        enum = rows[owner].enum_type.add(name=own) if owner else file.enum_type.add(name=own)
        for value in values.split():
            label, _, number = value.partition("=")
            enum.value.add(name=label, number=int(number))
    for name, fields in messages.items():
        for text in fields.split():
            _add_field(rows[name], text, package, enums)
    # A pool of its own: other libraries of the same process may hold Caffe's messages too.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        f"{package}.{name}": message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(message: Any, text: str, package: str, enums: Mapping[str, str]) -> None:
    head, _, rest = text.partition(":")
    name, _, number = head.partition("=")
    kind, _, default = rest.partition("=")
    label = _REPEATED if kind.endswith("*") else _OPTIONAL
    kind = kind.rstrip("*")
    field = message.field.add(name=name, number=int(number), label=label)
    if kind in _TYPES:
        field.type = _TYPES[kind]
        # Readers take both encodings, whatever is said here; this one is what Caffe writes.
        field.options.packed = label == _REPEATED and kind not in ("string", "bytes")
    else:
        own = f"{message.name}.{kind}"
        field.type = _ENUM if own in enums or kind in enums else _MESSAGE
        field.type_name = f".{package}.{own if own in enums else kind}"
    if default:
        field.default_value = default
