"""Operators on lists."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sdkpack.builtin.operators.rows import ZIP_PORTS
from sdkpack.errors import InputError
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from sdkpack.builtin.operators.params import FilterParams, SortParams, ZipParams

__all__ = ["Filter", "Gather", "Restore", "Sort", "Zip"]


def _same_list(inputs: Mapping[str, ValueType]) -> dict[str, ValueType]:
    kind = inputs.get("items")
    return {"items": kind} if kind is not None and kind.kind == "list" else {}


def _check_key(inputs: Mapping[str, ValueType], key: str) -> None:
    kind = inputs.get("items")
    item = kind.item if kind is not None else None
    if item is None or item.kind == "any":
        return
    if not key and item.kind not in ("int", "float"):
        raise ValueError(f"items are {item}: say by `key` which field of them is a number")
    if key and item.kind != "record":
        raise ValueError(f"key is {key!r}, but items are {item}, not records")
    fields = dict(item.fields)
    if key and fields and key not in fields:
        raise ValueError(f"key is {key!r}, but the records have {', '.join(fields)}")
    if key and fields and fields[key].kind not in ("int", "float", "any"):
        raise ValueError(f"the field {key!r} is {fields[key]}, not a number")


def _number(item: Any, key: str) -> float:
    if not key:
        return float(item)
    if not isinstance(item, dict) or key not in item:
        raise InputError(f"expected records with a field {key!r}, got a {type(item).__name__}")
    return float(item[key])


_KEEPS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


class Filter:
    """Keeps the items whose value is at least (above, at most, below) `threshold`; what is not a number goes."""

    def __init__(self, params: FilterParams) -> None:
        self._params = params
        self._keeps = _KEEPS[params.keep]

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        _check_key(inputs, self._params.key)
        return _same_list(inputs)

    def run(self, items: Sequence[Any]) -> list[Any]:
        return [item for item in items if self._keeps(_number(item, self._params.key), self._params.threshold)]


class Sort:
    """Sorts items by their value, equals in list order, what is not a number last; `order` says which item came whence.

    `order[i]` is the place that item `i` of the result had before.
    """

    def __init__(self, params: SortParams) -> None:
        self._params = params

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        _check_key(inputs, self._params.key)
        return _same_list(inputs)

    def run(self, items: Sequence[Any]) -> tuple[list[Any], list[int]]:
        sign = -1.0 if self._params.descending else 1.0

        def rank(place: int) -> tuple[bool, float]:
            value = _number(items[place], self._params.key)
            return (True, 0.0) if math.isnan(value) else (False, sign * value)

        order = sorted(range(len(items)), key=rank)
        return [items[place] for place in order], order


class Restore:
    """Puts item `i` back to place `order[i]`."""

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return _same_list(inputs)

    def run(self, items: Sequence[Any], order: Sequence[int]) -> list[Any]:
        if sorted(order) != list(range(len(items))):
            raise InputError(f"expected the order of {len(items)} items, each place once, got {len(order)} places")
        result: list[Any] = [None] * len(items)
        for item, place in zip(items, order, strict=True):
            result[place] = item
        return result


class Gather:
    """Takes the items at the places `order`, which may name a place never or often."""

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return _same_list(inputs)

    def run(self, items: Sequence[Any], order: Sequence[int]) -> list[Any]:
        wrong = [place for place in order if not 0 <= place < len(items)]
        if wrong:
            raise InputError(f"expected places from 0 to {len(items) - 1}, got {wrong[0]}")
        return [items[place] for place in order]


class Zip:
    """Joins lists of one length into a list of records; the first list feeds the first of `keys`, and so on."""

    def __init__(self, params: ZipParams) -> None:
        self._keys = params.keys

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        connected = [name for name in ZIP_PORTS if name in inputs]
        if connected != list(ZIP_PORTS[: len(self._keys)]):
            raise ValueError(f"there are {len(self._keys)} keys for {len(connected)} lists")
        kinds = [inputs[name].item or ValueType(kind="any") for name in connected]
        fields = tuple(sorted(zip(self._keys, kinds, strict=True)))
        return {"records": ValueType.list_of(ValueType(kind="record", fields=fields))}

    def run(self, *lists: Sequence[Any] | None) -> list[dict[str, Any]]:
        given = [items for items in lists if items is not None]
        if len(given) != len(self._keys):
            raise InputError(f"expected {len(self._keys)} lists, one for each key, got {len(given)}")
        lengths = {len(items) for items in given}
        if len(lengths) > 1:
            got = ", ".join(f"{key}: {len(items)}" for key, items in zip(self._keys, given, strict=True))
            raise InputError(f"expected lists of one length, got {got}")
        return [dict(zip(self._keys, values, strict=True)) for values in zip(*given, strict=True)]
