"""Element types that NumPy lacks: bfloat16, 8-bit floats, 4- and 2-bit numbers.

ONNX Runtime's Python functions neither take nor give arrays of them, only `OrtValue`s. Here these are made and read
through their memory. In NumPy such values are arrays of `ml_dtypes`, a byte or two for each element; in ONNX Runtime
4- and 2-bit numbers are packed, the first in the lowest bits (ONNX, TensorProto, `raw_data`).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["FOREIGN", "array_of", "element_name", "is_foreign", "value_of"]


class _Element(NamedTuple):
    number: int
    """ONNX's, in TensorProto.DataType."""
    dtype: str
    """Its name in ml_dtypes."""
    bits: int


FOREIGN: Final[Mapping[str, _Element]] = {
    "bfloat16": _Element(16, "bfloat16", 16),
    "float8e4m3fn": _Element(17, "float8_e4m3fn", 8),
    "float8e4m3fnuz": _Element(18, "float8_e4m3fnuz", 8),
    "float8e5m2": _Element(19, "float8_e5m2", 8),
    "float8e5m2fnuz": _Element(20, "float8_e5m2fnuz", 8),
    "uint4": _Element(21, "uint4", 4),
    "int4": _Element(22, "int4", 4),
    "float4e2m1": _Element(23, "float4_e2m1fn", 4),
    "float8e8m0": _Element(24, "float8_e8m0fnu", 8),
    "uint2": _Element(25, "uint2", 2),
    "int2": _Element(26, "int2", 2),
}

_NAMES: Final = {element.dtype: name for name, element in FOREIGN.items()}


def element_name(array: NDArray[Any]) -> str:
    """An array's element type by sdkpack's name."""
    name = str(array.dtype)
    return _NAMES.get(name, name)


def is_foreign(text: str) -> bool:
    """Whether `tensor(float8e4m3fn)`, as a session describes a tensor, is of such a type."""
    return text.removeprefix("tensor(").removesuffix(")") in FOREIGN


def value_of(library: Any, array: NDArray[Any]) -> Any:
    """An `OrtValue` with a copy of the array."""
    import numpy as np

    name = element_name(array)
    if name not in FOREIGN:
        return library.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    element = FOREIGN[name]
    value = library.OrtValue.ortvalue_from_shape_and_type(list(array.shape), element.number, "cpu", 0)
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    packed = content if element.bits >= 8 else _packed(content, element.bits)
    if packed.size:
        ctypes.memmove(value.data_ptr(), packed.ctypes.data, packed.nbytes)
    return value


def array_of(value: Any, text: str) -> NDArray[Any]:
    """An `OrtValue`'s content; `text` is what the session says of it, as `tensor(bfloat16)`."""
    import ml_dtypes
    import numpy as np

    if not is_foreign(text):
        found: NDArray[Any] = value.numpy()
        return found
    element = FOREIGN[text.removeprefix("tensor(").removesuffix(")")]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    length = -(-count * element.bits // 8)
    # string_at copies: the array outlives the value.
    content = np.frombuffer(ctypes.string_at(value.data_ptr(), length) if length else b"", np.uint8)
    if element.bits < 8:
        content = _unpacked(content, element.bits, count)
    result: NDArray[Any] = content.view(np.dtype(getattr(ml_dtypes, element.dtype))).reshape(shape)
    return result


def _packed(content: NDArray[Any], bits: int) -> NDArray[Any]:
    import numpy as np

    each = 8 // bits
    padded = np.zeros(-(-content.size // each) * each, np.uint8)
    padded[: content.size] = content & ((1 << bits) - 1)
    rows = padded.reshape(-1, each)
    packed: NDArray[Any] = np.bitwise_or.reduce(rows << (np.arange(each, dtype=np.uint8) * bits), axis=1)
    return packed.astype(np.uint8)


def _unpacked(content: NDArray[Any], bits: int, count: int) -> NDArray[Any]:
    import numpy as np

    each = 8 // bits
    shifts = np.arange(each, dtype=np.uint8) * bits
    values: NDArray[Any] = ((content[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    return values.astype(np.uint8)  # ml_dtypes keeps negative numbers without their sign bits too
