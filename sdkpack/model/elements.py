"""Element types of ONNX tensors, and a tensor's content as the bytes that `raw_data` would hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sdkpack.errors import ModelError

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = [
    "ELEMENTS",
    "ELEMENT_BY_NAME",
    "MAX_TENSOR_BYTES",
    "STRING",
    "Element",
    "element_of",
    "is_external",
    "raw_bytes",
    "tensor_bytes",
]

STRING: Final = 8
"""`TensorProto.STRING`: the one element type without a fixed size."""

MAX_TENSOR_BYTES: Final = 1 << 40
"""No tensor is larger than the largest blob of a bundle; a dimension of 2^62 is an attack on size arithmetic."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element type: ONNX's number, the name used everywhere in sdkpack, the size in bits."""

    code: int
    name: str
    bits: int
    field: str
    """The typed field of `TensorProto` that may hold the data instead of `raw_data`."""


def _table() -> dict[int, Element]:
    rows = (
        (1, "float32", 32, "float_data"), (2, "uint8", 8, "int32_data"), (3, "int8", 8, "int32_data"),
        (4, "uint16", 16, "int32_data"), (5, "int16", 16, "int32_data"), (6, "int32", 32, "int32_data"),
        (7, "int64", 64, "int64_data"), (8, "string", 0, "string_data"), (9, "bool", 8, "int32_data"),
        (10, "float16", 16, "int32_data"), (11, "float64", 64, "double_data"), (12, "uint32", 32, "uint64_data"),
        (13, "uint64", 64, "uint64_data"), (14, "complex64", 64, "float_data"),
        (15, "complex128", 128, "double_data"), (16, "bfloat16", 16, "int32_data"),
        (17, "float8e4m3fn", 8, "int32_data"), (18, "float8e4m3fnuz", 8, "int32_data"),
        (19, "float8e5m2", 8, "int32_data"),
        (20, "float8e5m2fnuz", 8, "int32_data"), (21, "uint4", 4, "int32_data"), (22, "int4", 4, "int32_data"),
        (23, "float4e2m1", 4, "int32_data"), (24, "float8e8m0", 8, "int32_data"), (25, "uint2", 2, "int32_data"),
        (26, "int2", 2, "int32_data"),
    )  # fmt: skip
    return {row[0]: Element(*row) for row in rows}


ELEMENTS: Final = _table()
"""Every element type of ONNX up to IR version 13 (`onnx.proto`, TensorProto.DataType), by number."""

ELEMENT_BY_NAME: Final = {element.name: element for element in ELEMENTS.values()}


def element_of(tensor: TensorProto, where: str) -> Element:
    """The element type of `tensor`.

    Raises:
        ModelError: the number is none that ONNX defines.
    """
    element = ELEMENTS.get(tensor.data_type)
    if element is None:
        raise ModelError(
            f"{where}: unknown element type, got number {tensor.data_type}, expected 1 to {max(ELEMENTS)}",
            hint="export the model again, or install a newer sdkpack",
        )
    return element


def tensor_bytes(tensor: TensorProto, where: str) -> int:
    """The size in bytes that element type and shape ask for.

    Raises:
        ModelError: a dimension is negative, the tensor is impossibly large, or holds strings.
    """
    element = element_of(tensor, where)
    if element.code == STRING:
        raise ModelError(f"{where}: a tensor of strings has no fixed size")
    count = 1
    for dim in tensor.dims:
        if dim < 0:
            raise ModelError(f"{where}: negative dimension, got {list(tensor.dims)}")
        # Checked at every factor: Python's integers do not overflow, but a product of many 2^62 takes for ever. A
        # later zero does not excuse an absurd factor.
        count *= dim
        if count * element.bits > MAX_TENSOR_BYTES * 8 or dim > MAX_TENSOR_BYTES:
            raise ModelError(f"{where}: the declared shape {list(tensor.dims)[:8]} needs more than 2^40 bytes")
    return (count * element.bits + 7) // 8


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor says, in either of the two possible ways, that its data stands in another file."""
    return tensor.data_location == 1 or len(tensor.external_data) > 0


def raw_bytes(tensor: TensorProto, where: str) -> bytes:
    """The content of a tensor that carries its own data, little-endian, as `raw_data` would hold it.

    Raises:
        ModelError: the amount of data is not what type and shape ask for, or it stands in two fields.
    """
    element = element_of(tensor, where)
    expected = tensor_bytes(tensor, where)
    typed = getattr(tensor, element.field)
    if tensor.HasField("raw_data"):
        if len(typed):
            raise ModelError(f"{where}: data in both raw_data and {element.field}")
        data = tensor.raw_data
    else:
        data = _pack(typed, element)
    if len(data) != expected:
        raise ModelError(
            f"{where}: wrong amount of data, got {len(data)} bytes, "
            f"expected {expected} for {element.name} {list(tensor.dims)}"
        )
    return bytes(data)


def _pack(values: object, element: Element) -> bytes:
    """Typed fields to bytes: `int32_data` holds one value, or one byte of packed values, an entry."""
    import numpy as np

    if element.field == "float_data":
        return np.array(values, dtype="<f4").tobytes()
    if element.field == "double_data":
        return np.array(values, dtype="<f8").tobytes()
    if element.field == "int64_data":
        return np.array(values, dtype="<i8").tobytes()
    if element.field == "uint64_data":
        return np.array(values, dtype="<u8").astype(f"<u{element.bits // 8}").tobytes()
    size = max(element.bits, 8) // 8
    # Through a signed view: the low bits of a negative int8 are what raw_data holds.
    return np.array(values, dtype="<i4").astype(f"<i{size}").tobytes()
