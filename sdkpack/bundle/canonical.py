"""Canonical msgpack: one document, one encoding; and a decoder that counts before it builds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgpack

from sdkpack.errors import BundleError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "decode", "encode", "refuse_floats"]

MAX_DEPTH: Final = 16  # a manifest's pipelines nest about eight deep; recursion stays bounded
# 65536 blobs of four items and as many files of three come to 0.6 million. An item costs up to 56 bytes when built:
# 16 MiB of empty arrays took 1.2 GB and seconds.
MAX_ITEMS: Final = 1_000_000

# Bytes that follow the tag, for values of fixed length; nil (c0), ext and float32 are missing on purpose.
_FIXED: Final = {0xC2: 0, 0xC3: 0, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LENGTH: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_CONTAINER: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def encode(document: Any, *, floats: bool = False) -> bytes:
    """Returns the one encoding of a document of dict, list, tuple, str, bytes, int, bool and, if allowed, float.

    Raises:
        ValueError: a value has no canonical encoding (nil, NaN, infinity, negative zero, float where none may be,
            integer beyond 64 bits, key that is no string, text that is no UTF-8).
    """
    try:
        packed: bytes = msgpack.packb(_ordered(document, floats=floats, depth=0))
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    return packed


def _ordered(value: Any, *, floats: bool, depth: int) -> Any:
    """Rebuilds a document with its keys in order. Code point order of str is the byte order of its UTF-8."""
    kind = type(value)
    if kind is str or kind is int or kind is bytes or kind is bool:
        return value
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise ValueError("a map's keys must be strings")
        return {key: _ordered(value[key], floats=floats, depth=depth + 1) for key in sorted(value)}
    if kind is list or kind is tuple:
        return [_ordered(item, floats=floats, depth=depth + 1) for item in value]
    if kind is float and floats:
        if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
            raise ValueError(f"{value} has no canonical encoding")
        return value
    raise ValueError(f"a {kind.__name__} cannot be stored here")


def refuse_floats(value: Any) -> None:
    """Raises ValueError where a document that may not hold floats does."""
    _ordered(value, floats=False, depth=0)


def decode(data: bytes, *, error: type[BundleError], what: str, floats: bool = False) -> Any:
    """Returns the document in `data`, if `data` is exactly its canonical encoding.

    Args:
        data: the whole encoding.
        error: what to raise where it is malformed.
        what: the part's name, for messages.
        floats: whether float64 is allowed.

    Raises:
        BundleError: of class `error`: malformed, not canonical, or followed by other bytes.
        LimitError: nested too deeply or too many items; nothing was built.
    """
    _scan(data, error, what)
    try:
        document = msgpack.unpackb(data, strict_map_key=True)
        # Duplicate keys, unsorted keys, long forms of integers and lengths: all of them fail here and nowhere else.
        same = encode(document, floats=floats) == data
    except (ValueError, msgpack.UnpackException) as problem:
        raise error(f"the {what} is no canonical msgpack: {_reason(problem)}") from None
    if not same:
        raise error(f"the {what} is no canonical msgpack: its values have a shorter or other order of encoding")
    return document


def _reason(problem: Exception) -> str:
    return "text is not UTF-8" if isinstance(problem, UnicodeDecodeError) else str(problem)[:200] or "malformed"


def _scan(data: bytes, error: type[BundleError], what: str) -> None:
    """Walks over the tags: checks types, depth and counts, and that claimed lengths lie within the data."""
    position = 0
    try:
        for step in _walk(data):
            position, items, depth = step
            if items > MAX_ITEMS:
                raise LimitError(f"the {what} has more than {MAX_ITEMS} items")
            if depth > MAX_DEPTH:
                raise LimitError(f"the {what} is nested deeper than {MAX_DEPTH}")
    except IndexError:
        raise error(f"the {what} ends early") from None
    except ValueError as problem:
        raise error(f"the {what} is no canonical msgpack: {problem}") from None
    if position != len(data):
        raise error(f"the {what} has {len(data)} bytes, its content {position}")


def _walk(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (position, items announced so far, depth) at each container and at the end."""
    position, items, left = 0, 1, 1
    outer: list[int] = []
    while True:
        while left == 0:
            if not outer:
                yield position, items, 0
                return
            left = outer.pop()
        left -= 1
        tag = data[position]
        position += 1
        if tag < 0x80 or tag >= 0xE0:
            continue
        if 0xA0 <= tag < 0xC0:
            position += tag & 0x1F
        elif tag in _FIXED:
            position += _FIXED[tag]
        elif tag in _LENGTH:
            width = _LENGTH[tag]
            position += width + int.from_bytes(data[position : position + width], "big")
        else:
            count, position = _container(data, tag, position)
            items += count
            if count > len(data) - position:
                raise ValueError(f"{count} items are announced in {len(data) - position} bytes")
            if count:
                outer.append(left)
                left = count
            yield position, items, len(outer)


def _container(data: bytes, tag: int, position: int) -> tuple[int, int]:
    """Returns how many items a container announces, and where they begin."""
    if tag < 0x90:
        return 2 * (tag & 0x0F), position
    if tag < 0xA0:
        return tag & 0x0F, position
    if tag not in _CONTAINER:
        raise ValueError(f"type {tag:#04x} (nil, ext or float32) is not allowed")
    width, each = _CONTAINER[tag]
    return each * int.from_bytes(data[position : position + width], "big"), position + width
