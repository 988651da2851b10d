"""Whether a value of one type may feed a port of another, before anything runs.

Dimensions are sizes, symbols or "?". Symbols of a port belong to one call of its step: `[N, 3, H, H]` says that two
axes have one size, not which. A symbol of a *value* says only that the size is not known yet; it fits everywhere, and
the run looks again when it knows.
"""

from __future__ import annotations

from dataclasses import replace

from sdkpack.types import ValueType

__all__ = ["ANY", "Dims", "filled", "join", "mismatch"]

Dims = dict[str, int | str]
"""What the symbols of one call stand for."""

ANY = ValueType(kind="any")


def mismatch(port: ValueType, value: ValueType, dims: Dims) -> str:
    """Why `value` cannot feed `port`; empty where it can. Symbols of the port are bound in `dims`."""
    if "any" in (port.kind, value.kind):
        return ""
    if port.kind == "float" and value.kind == "int":
        return ""
    if port.kind != value.kind:
        return f"{_article(value)} is not {_article(port)}"
    if port.kind == "tensor":
        return _tensor_mismatch(port, value, dims)
    if port.kind == "list":
        assert port.item is not None
        assert value.item is not None
        reason = mismatch(port.item, value.item, dims)
        return f"in its items: {reason}" if reason else ""
    if port.kind == "record":
        return _record_mismatch(port, value, dims)
    return ""


def filled(kind: ValueType, dims: Dims) -> ValueType:
    """`kind` with every bound symbol replaced."""
    if kind.kind == "tensor" and kind.shape is not None:
        return replace(kind, shape=tuple(dims.get(dim, dim) if isinstance(dim, str) else dim for dim in kind.shape))
    if kind.item is not None:
        return replace(kind, item=filled(kind.item, dims))
    if kind.fields:
        return replace(kind, fields=tuple((name, filled(field, dims)) for name, field in kind.fields))
    return kind


def join(one: ValueType, other: ValueType) -> ValueType:
    """The type of a value that is sometimes of type `one` and sometimes of type `other`; the two must fit."""
    if one.kind != other.kind:
        return ANY if "any" in (one.kind, other.kind) else ValueType(kind="float")
    if one.kind == "tensor":
        return _joined_tensor(one, other)
    if one.item is not None and other.item is not None:
        return ValueType.list_of(join(one.item, other.item))
    if one.fields and other.fields:
        theirs = dict(other.fields)
        shared = tuple((name, join(kind, theirs[name])) for name, kind in one.fields if name in theirs)
        return replace(one, fields=shared)
    return one if not one.fields else other


def _tensor_mismatch(port: ValueType, value: ValueType, dims: Dims) -> str:
    if port.dtype and value.dtype and port.dtype != value.dtype:
        return f"element type is {value.dtype}, expected {port.dtype}"
    if port.shape is None or value.shape is None:
        return ""
    if len(port.shape) != len(value.shape):
        return f"it has {_axes(len(value.shape))}, expected {len(port.shape)}"
    for axis, (wanted, got) in enumerate(zip(port.shape, value.shape, strict=True)):
        if isinstance(wanted, int):
            if isinstance(got, int) and got != wanted:
                return f"axis {axis} is {got}, expected {wanted}"
        elif wanted != "?":
            known = dims.get(wanted)
            if isinstance(known, int) and isinstance(got, int) and known != got:
                return f"axis {axis} is {got}, but {wanted} is already {known}"
            if not isinstance(known, int):
                dims[wanted] = got
    return ""


def _record_mismatch(port: ValueType, value: ValueType, dims: Dims) -> str:
    if not value.fields:
        return ""
    theirs = dict(value.fields)
    for name, kind in port.fields:
        if name not in theirs:
            return f"its field {name!r} is missing"
        if reason := mismatch(kind, theirs[name], dims):
            return f"in its field {name!r}: {reason}"
    return ""


def _joined_tensor(one: ValueType, other: ValueType) -> ValueType:
    dtype = one.dtype if one.dtype == other.dtype else ""
    if not dtype:
        return ValueType(kind="tensor")
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return ValueType(kind="tensor", dtype=dtype)
    shape = tuple(a if a == b and isinstance(a, int) else "?" for a, b in zip(one.shape, other.shape, strict=True))
    return ValueType(kind="tensor", dtype=dtype, shape=shape)


def _article(kind: ValueType) -> str:
    return f"{'an' if kind.kind[0] in 'aeiou' else 'a'} {kind.kind}"


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"
