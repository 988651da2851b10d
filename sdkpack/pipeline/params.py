"""Parameters of steps: `$NAME` references, defaults, and what a customer sets at run time."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from sdkpack.documents.base import Json, problems_of
from sdkpack.documents.pipeline import ParamSpec
from sdkpack.errors import InputError, Problem
from sdkpack.host.params import ParamSchema
from sdkpack.pipeline.findings import Findings, near

__all__ = ["ParamValue", "completed", "customer_values", "reference", "references", "substituted"]

ParamValue = bool | int | float | str

_REFERENCE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")


def reference(value: Any) -> str:
    """The name in `"$NAME"`; empty where `value` is anything else (`"$5"` is a plain text)."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else ""


def references(value: Any) -> frozenset[str]:
    """Every name that is referenced in `value`, at any depth."""
    if isinstance(value, Mapping):
        return frozenset().union(*map(references, value.values()))
    if isinstance(value, list | tuple):
        return frozenset().union(*map(references, value))
    name = reference(value)
    return frozenset({name} if name else ())


def substituted(value: Any, values: Mapping[str, ParamValue]) -> Any:
    """`value` with every reference replaced."""
    if isinstance(value, Mapping):
        return {key: substituted(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substituted(item, values) for item in value]
    name = reference(value)
    return values[name] if name else value


def completed(
    schema: ParamSchema, given: Mapping[str, Json], kept: frozenset[str], findings: Findings, path: str
) -> dict[str, Json]:
    """Every parameter of the schema in its JSON form, defaults written out.

    Each is read on its own; what several say together is seen when the operator is made.

    Args:
        kept: names of `given` that stay as they are: references and assets.
        path: where `given` stands.
    """
    kind = schema.info.params
    # An unknown name is reported with its near match when the operator is made.
    if kind is None:
        return dict(given)
    hints = typing.get_type_hints(kind, include_extras=True)
    complete = {name: value for name, value in given.items() if name in kept or name not in schema.names}
    for field in dataclasses.fields(kind):
        if field.name in complete:
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(hints[field.name])
        if field.name in given:
            try:
                value = adapter.validate_python(given[field.name])
            except ValidationError as error:
                findings.extend(problems_of(error, prefix=f"{path}.{field.name}"))
                continue
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            findings.add(f"{path}.{field.name}", "missing", expected=_type_name(hints[field.name]))
            continue
        complete[field.name] = adapter.dump_python(value, mode="json")
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
    fitting = isinstance(value, int) if whole else isinstance(value, int | float) and math.isfinite(value)
    low = -math.inf if spec.min is None else spec.min
    high = math.inf if spec.max is None else spec.max
    if fitting and not isinstance(value, bool) and low <= value <= high:
        return ""
    kind = "a whole number" if whole else "a number"
    return kind if (spec.min, spec.max) == (None, None) else f"{kind} from {low} to {high}"


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
