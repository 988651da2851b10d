"""Whether a value is what its type says, while a pipeline runs.

Types are proved before the first run, but sizes that were symbols, an operator that breaks its word, and what the
caller passes in are only seen here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sdkpack.types import ValueType

__all__ = ["Sizes", "described", "nonconformity"]

Sizes = dict[str, int]
"""What the symbols of one call stand for."""


def nonconformity(kind: ValueType, value: Any, sizes: Sizes) -> str:
    """Why `value` is not of type `kind`; empty where it is. Symbols are bound in `sizes`.

    A kind that is not sdkpack's own is its plugins' affair and passes.
    """
    if kind.kind == "tensor":
        return _tensor(kind, value, sizes)
    if kind.kind == "list":
        return _list(kind, value, sizes)
    if kind.kind == "record":
        return _record(kind, value, sizes)
    test = _TESTS.get(kind.kind)
    return "" if test is None or test(value) else f"got {described(value)}, expected {_WORDS.get(kind.kind, kind.kind)}"


def described(value: Any) -> str:
    """Kind and size of a value in a few words, never its content: an error text may end up in a log."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{dtype} [{', '.join(map(str, shape))}]"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _is_image(value: Any) -> bool:
    return _is_array(value) and value.dtype.name == "uint8" and value.ndim == 3 and value.shape[2] == 3


def _is_quad(value: Any) -> bool:
    return _is_array(value) and value.dtype.name == "float32" and value.shape == (4, 2)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | bytearray | memoryview)


def _is_int(value: Any) -> bool:
    import numpy as np

    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    import numpy as np

    return _is_int(value) or isinstance(value, float | np.floating)


def _is_bool(value: Any) -> bool:
    import numpy as np

    return isinstance(value, bool | np.bool_)


def _is_array(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


_TESTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "image": _is_image,
    "image/encoded": _is_bytes,
    "bytes": _is_bytes,
    "quad": _is_quad,
    "string": lambda value: isinstance(value, str),
    "int": _is_int,
    "float": _is_float,
    "bool": _is_bool,
}
_WORDS: Final[Mapping[str, str]] = {
    "image": "an image: uint8 [height, width, 3]",
    "image/encoded": "the bytes of an encoded image",
    "quad": "four corners: float32 [4, 2]",
}


def _tensor(kind: ValueType, value: Any, sizes: Sizes) -> str:
    if not _is_array(value):
        return f"got {described(value)}, expected an array: {kind}"
    if kind.dtype and _dtype(value) != kind.dtype:
        return f"got {described(value)}, expected {kind}: element type is {_dtype(value)}"
    if kind.shape is None:
        return ""
    if len(kind.shape) != value.ndim:
        return f"got {described(value)}, expected {kind}: the number of axes is {value.ndim}"
    for axis, (wanted, got) in enumerate(zip(kind.shape, value.shape, strict=True)):
        known = wanted if isinstance(wanted, int) else got if wanted == "?" else sizes.setdefault(wanted, got)
        if known != got:
            why = f"{wanted} is already {known}" if isinstance(wanted, str) else f"expected {wanted}"
            return f"got {described(value)}, expected {kind}: axis {axis} is {got}, {why}"
    return ""


def _dtype(array: Any) -> str:
    """The element type by sdkpack's name: extension types are written `float8_e4m3fn` elsewhere."""
    if array.dtype.kind in "OSUT":
        return "string"
    name: str = array.dtype.name
    return name.replace("_", "")


def _list(kind: ValueType, value: Any, sizes: Sizes) -> str:
    if not isinstance(value, list):
        return f"got {described(value)}, expected {kind}"
    assert kind.item is not None
    for index, item in enumerate(value):
        # Sizes may differ from item to item: each crop has its own width.
        if reason := nonconformity(kind.item, item, dict(sizes)):
            return f"item {index}: {reason}"
    return ""


def _record(kind: ValueType, value: Any, sizes: Sizes) -> str:
    if not isinstance(value, dict):
        return f"got {described(value)}, expected {kind}"
    for name, field in kind.fields:
        if name not in value:
            return f"field {name!r} is missing"
        if reason := nonconformity(field, value[name], sizes):
            return f"field {name!r}: {reason}"
    return ""
