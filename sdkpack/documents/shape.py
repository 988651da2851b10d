"""A walk over the annotations of documents and params dataclasses, side by side with the data as written.

Pydantic's locations name the branches of unions and its models ignore what a nested dataclass does not know; an author
is told paths of the file instead, and every unknown key.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from sdkpack.errors import Problem

__all__ = ["EXTENSION_PREFIX", "Place", "join", "locate", "members", "unknown_keys"]

EXTENSION_PREFIX: Final = "x-"
"""Keys that a reader may ignore: the only free space in a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a document a finding of pydantic's is."""

    path: str
    union: str | None = None
    """The path of the outermost union that the location went through."""
    at_branch: bool = False
    """The location ends at the union: it is about a whole branch."""
    key: bool = False
    """It is about the key at `path`, not about its value."""


def join(path: str, part: str | int) -> str:
    """The path of an item (`int`) or key (`str`) below `path`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else part


def members(annotation: Any) -> tuple[Any, ...]:
    """The branches of a union, without None and without what Annotated adds; one for anything else."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = (member for arg in get_args(annotation) for member in members(arg))
        return tuple(member for member in inner if member is not type(None))
    return (annotation,)


def locate(annotation: Any, location: Sequence[str | int]) -> Place:
    """Reads one of pydantic's locations, in which a union takes a part of its own that no author wrote."""
    path, union, parts = "", None, list(location)
    while parts:
        branches = members(annotation)
        if len(branches) > 1:
            parts.pop(0)
            union = path if union is None else union
            if not parts:
                return Place(path=path, union=union, at_branch=True)
            branches = tuple(branch for branch in branches if _holds(branch, parts[0])) or (Any,)
        part = parts.pop(0)
        if part == "[key]":
            return Place(path=path, union=union, key=True)
        path, annotation = join(path, part), below(branches[0], part)
    return Place(path=path, union=union)


def below(annotation: Any, part: str | int) -> Any:
    """The annotation of a key or item; Any where it is not known."""
    fields = fields_of(annotation)
    if fields is not None:
        return fields.get(str(part), Any)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict or origin is Mapping:
        return args[1]
    if isinstance(part, int) and args:
        fixed = origin is tuple and Ellipsis not in args
        return (args[part] if part < len(args) else Any) if fixed else args[0]
    return Any


def _holds(annotation: Any, part: str | int) -> bool:
    origin = get_origin(annotation)
    if isinstance(part, int):
        return origin in (tuple, list, Sequence)
    fields = fields_of(annotation)
    return origin in (dict, Mapping) or (fields is not None and part in fields)


def fields_of(annotation: Any) -> Mapping[str, Any] | None:
    """Keys as the author writes them, with their annotations; None for what is no table of known keys."""
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, BaseModel):
        return {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(annotation) if field.init}
    return None


def unknown_keys(annotation: Any, value: Any, path: str = "") -> Iterable[Problem]:
    """Every key of `value`, at any depth, that the schema does not have."""
    if isinstance(value, dict):
        tables = [fields for branch in members(annotation) if (fields := fields_of(branch)) is not None]
        # Of several kinds of table, the one that knows the most of these keys is what the author meant.
        table = max(tables, key=lambda fields: len(fields.keys() & value.keys()), default=None)
        extensions = any(isinstance(branch, type) and issubclass(branch, BaseModel) for branch in members(annotation))
        for key, item in value.items():
            if table is not None and key not in table:
                if not (extensions and str(key).startswith(EXTENSION_PREFIX)):
                    yield _unknown(str(key), table, path)
                continue
            inner = table[key] if table is not None else _of_dict(annotation)
            yield from unknown_keys(inner, item, join(path, str(key)))
    elif isinstance(value, list | tuple):
        branch = next((branch for branch in members(annotation) if _holds(branch, 0)), Any)
        for number, item in enumerate(value):
            yield from unknown_keys(below(branch, number), item, join(path, number))


def _of_dict(annotation: Any) -> Any:
    return next((get_args(branch)[1] for branch in members(annotation) if get_origin(branch) in (dict, Mapping)), Any)


def _unknown(key: str, fields: Mapping[str, Any], path: str) -> Problem:
    near = difflib.get_close_matches(key, fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else ""
    expected = f"one of {', '.join(sorted(fields))}"
    return Problem(path=join(path, key), message="unknown key", expected=expected, hint=hint)
