"""Parameters of steps: `$NAME` references, defaults, and what a customer sets at run time."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from sdkpack.documents.base import Json
from sdkpack.documents.pipeline import ParamSpec
from sdkpack.errors import InputError, Problem
from sdkpack.host.params import ParamSchema
from sdkpack.pipeline.findings import near

__all__ = ["ParamValue", "completed", "customer_values", "reference", "references", "substituted"]

ParamValue = bool | int | float | str

_REFERENCE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")


def reference(value: Any) -> str:
    """The name in `"$NAME"`; empty where `value` is anything else (`"$5"` is a plain text)."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else ""


def references(params: Mapping[str, Any]) -> frozenset[str]:
    """The run-time parameters that a step's parameters name. Only a whole value is a reference: in a list of labels,
    `$x` is a label."""
    return frozenset(name for value in params.values() if (name := reference(value)))


def substituted(params: Mapping[str, Any], values: Mapping[str, ParamValue]) -> dict[str, Any]:
    """A step's parameters with every reference replaced."""
    return {key: values[name] if (name := reference(value)) else value for key, value in params.items()}


def completed(schema: ParamSchema, given: Mapping[str, Json]) -> dict[str, Json]:
    """`given` with the defaults of what it leaves out, as JSON values; a default of None is absent."""
    kind = schema.info.params
    if kind is None:
        return dict(given)
    hints = typing.get_type_hints(kind, include_extras=True)
    complete = dict(given)
    for field in dataclasses.fields(kind):
        if field.name in given or not field.init:
            continue
        if field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            continue
        if value is not None:
            adapter: TypeAdapter[Any] = TypeAdapter(hints[field.name])
            complete[field.name] = adapter.dump_python(value, mode="json", exclude_none=True)
    return complete


def customer_values(specs: Mapping[str, ParamSpec], given: Mapping[str, Any]) -> dict[str, ParamValue]:
    """The value of every run-time parameter, as given or by default.

    Raises:
        InputError: an unknown name, another type than the default's, or out of bounds; all of them together.
    """
    problems = [
        Problem(
            path=f"params.{name}",
            message="no such run-time parameter",
            expected=f"one of {', '.join(specs)}" if specs else "none",
            hint=near(name, tuple(specs)),
        )
        for name in given
        if name not in specs
    ]
    values: dict[str, ParamValue] = {}
    for name, spec in specs.items():
        values[name] = given.get(name, spec.default)
        if name in given and (expected := _not_allowed(spec, given[name])):
            got = repr(given[name])[:60]
            problems.append(Problem(path=f"params.{name}", message="not allowed", got=got, expected=expected))
    if problems:
        raise InputError("the run-time parameters cannot be used", problems=problems)
    return values


def _not_allowed(spec: ParamSpec, value: Any) -> str:
    """What is expected instead of `value`; empty where it is allowed."""
    if isinstance(spec.default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(spec.default, str):
        if spec.choices is not None:
            return "" if value in spec.choices else f"one of {', '.join(spec.choices)}"
        return "" if isinstance(value, str) else "a text"
    whole = not any(isinstance(number, float) for number in (spec.default, spec.min, spec.max))
    fitting = isinstance(value, int) or (not whole and isinstance(value, float) and math.isfinite(value))
    low = -math.inf if spec.min is None else spec.min
    high = math.inf if spec.max is None else spec.max
    if fitting and not isinstance(value, bool) and low <= value <= high:
        return ""
    return " ".join(
        part
        for part in (
            "a whole number" if whole else "a number",
            "" if spec.min is None else f"from {spec.min}",
            "" if spec.max is None else f"to {spec.max}",
        )
        if part
    )
