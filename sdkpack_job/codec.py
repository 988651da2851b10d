"""Requests and results as JSON.

In a request a path is `{"$path": "..."}` and a dataclass is `{"$type": "module:Class", ...}`; lists are tuples, and a
mapping with a key that begins with `$` is `{"$items": [[key, value], ...]}`. In a result all is plain: the side that
reads it knows the types, and does not let what it reads choose them.
"""

import dataclasses
import importlib
import os
from pathlib import Path

from sdkpack_job import Record


def encode(value):
    """A request's JSON.

    Raises:
        TypeError: a value has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"$type": kind.__module__ + ":" + kind.__qualname__, **fields}
    if isinstance(value, os.PathLike):
        return {"$path": os.fspath(value)}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if hasattr(value, "keys"):
        pairs = [[key, encode(value[key])] for key in value]
        if any(not isinstance(key, str) or key.startswith("$") for key, _ in pairs):
            return {"$items": pairs}
        return dict(pairs)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError("a request cannot hold a {}".format(type(value).__name__))


def decode(value):
    """The request again: dataclasses where their module can be imported, else a `Record` with the same names."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "$path" in value:
        return Path(value["$path"])
    if "$items" in value:
        return {key: decode(item) for key, item in value["$items"]}
    fields = {key: decode(item) for key, item in value.items() if key != "$type"}
    return _made(value["$type"], fields) if "$type" in value else fields


def _made(name, fields):
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, SyntaxError, TypeError):
        # Python before 3.10 stumbles over the dataclasses of the plugin API.
        return Record(**fields)
    return found(**fields)


def plain(value):
    """A result's JSON.

    Raises:
        TypeError: a value has no JSON form.
    """
    if isinstance(value, Record):
        return {key: plain(item) for key, item in vars(value).items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "keys"):
        return {str(key): plain(value[key]) for key in value}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError("a result cannot hold a {}".format(type(value).__name__))


def told(error):
    """What went wrong, for the other side. SystemExit and an interrupt inside a job are failures like others."""
    return {
        "type": type(error).__name__,
        "code": str(getattr(error, "code", "") or "") if not isinstance(error, SystemExit) else "",
        "message": str(getattr(error, "message", "") or error)[:4000],
        "hint": str(getattr(error, "hint", ""))[:4000],
    }
