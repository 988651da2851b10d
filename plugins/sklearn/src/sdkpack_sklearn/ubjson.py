"""Whether a UBJSON file is whole. XGBoost 3.2 crashes on some that are cut off, so they are looked at before.

Universal Binary JSON, draft 12: a marker byte, then a value; containers may state type (`$`) and count (`#`).
"""

from __future__ import annotations

from typing import Final

__all__ = ["check_ubjson"]

_SIZES: Final = {
    b"Z": 0, b"N": 0, b"T": 0, b"F": 0, b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"d": 4, b"L": 8, b"D": 8,
}  # fmt: skip
_MAX_DEPTH: Final = 64
"""XGBoost's own files are 8 deep."""


def check_ubjson(content: bytes) -> None:
    """
    Raises:
        ValueError: it is not one whole value; the message says where.
    """
    end = _Walk(content).value(0, 0)
    if end != len(content):
        raise ValueError(f"{len(content) - end} bytes follow its end")


class _Walk:
    """Steps over values; each method returns the place behind what it stepped over."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def value(self, place: int, depth: int, marker: bytes = b"") -> int:
        if not marker:
            marker, place = self._take(place, 1), place + 1
        if marker in _SIZES:
            self._take(place, _SIZES[marker])
            return place + _SIZES[marker]
        if marker in (b"S", b"H"):
            return self._text(place)
        if marker in (b"{", b"["):
            if depth == _MAX_DEPTH:
                raise ValueError(f"more than {_MAX_DEPTH} values in each other at byte {place}")
            return self._container(place, depth + 1, named=marker == b"{")
        raise ValueError(f"unknown marker {marker!r} at byte {place - 1}")

    def _container(self, place: int, depth: int, *, named: bool) -> int:
        kind, close = b"", b"}" if named else b"]"
        if self._take(place, 1) == b"$":
            kind, place = self._take(place + 1, 1), place + 2
        if self._take(place, 1) != b"#":
            while self._take(place, 1) != close:
                place = self.value(self._text(place) if named else place, depth)
            return place + 1
        count, place = self._integer(place + 1)
        if kind in _SIZES and not named:
            # At once: weights are arrays of millions.
            self._take(place, count * _SIZES[kind])
            return place + count * _SIZES[kind]
        for _ in range(count):
            place = self.value(self._text(place) if named else place, depth, kind)
        return place

    def _text(self, place: int) -> int:
        length, place = self._integer(place)
        self._take(place, length)
        return place + length

    def _integer(self, place: int) -> tuple[int, int]:
        marker = self._take(place, 1)
        if marker not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError(f"no length at byte {place}")
        size = _SIZES[marker]
        value = int.from_bytes(self._take(place + 1, size), "big", signed=marker != b"U")
        if value < 0:
            raise ValueError(f"a length of {value} at byte {place}")
        return value, place + 1 + size

    def _take(self, place: int, size: int) -> bytes:
        if place + size > len(self._content):
            raise ValueError(f"it ends at byte {len(self._content)}, in the middle of a value")
        return self._content[place : place + size]
