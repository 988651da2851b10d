"""What is wrong with a document, in its author's words: path, got, expected, near match."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from sdkpack.documents.patterns import WORDS
from sdkpack.documents.shape import Place, below, join, locate, members
from sdkpack.errors import Problem

__all__ = ["MAX_DEPTH", "Plain", "moved", "near", "problems_of", "several", "short"]

UNKNOWN_KEY: Final = "unknown_key"
_SEVERAL: Final = "several"

MAX_DEPTH: Final = 32
"""Nesting of tables and lists. Real documents need 12; a bomb of brackets would otherwise end in a RecursionError
somewhere in a parser."""

_INT_RANGE: Final = range(-(2**63), 2**64)
"""What msgpack has, and what every language reads; a longer number would be cut somewhere without a word."""


def several(problems: Sequence[Problem]) -> PydanticCustomError:
    """What a validator raises that has found more than one thing; paths are relative to its part."""
    return PydanticCustomError(_SEVERAL, "several problems", {"problems": tuple(problems)})


@dataclass(slots=True)
class Plain:
    """Turns parsed TOML, JSON or msgpack into plain JSON values and notes what has no place in a document.

    A value with a problem becomes None. Negative zero becomes zero: the bundle format has none.
    """

    problems: list[Problem] = field(default_factory=list)
    dates: list[tuple[str | int, ...]] = field(default_factory=list)
    """Where TOML had a date of its own, which is text from here on."""

    def of(self, value: Any, location: tuple[str | int, ...] = ()) -> Any:
        match value:
            case bool() | None if value is not None:
                return value
            case str():
                return value if _is_unicode(value) else self._refuse(location, "text is not valid Unicode")
            case int():
                return value if value in _INT_RANGE else self._refuse(location, "number does not fit into 64 bits")
            case float():
                return value + 0.0 if math.isfinite(value) else self._refuse(location, f"{value} is not a number")
            case dict() | list() | tuple() if len(location) >= MAX_DEPTH:
                return self._refuse(location, f"nested deeper than {MAX_DEPTH} levels")
            case dict():
                return self._table(value, location)
            case list() | tuple():
                return [self.of(item, (*location, number)) for number, item in enumerate(value)]
            case date() if not isinstance(value, datetime):
                self.dates.append(location)
                return value.isoformat()
            case None:
                return self._refuse(location, "null stands for nothing here", hint="leave the key out")
            case _:
                return self._refuse(location, f"a {type(value).__name__} has no place in a document")

    def misplaced_dates(self, annotation: Any) -> Iterable[Problem]:
        """Dates where the schema wants something else; they would otherwise pass as text."""
        for location in self.dates:
            here = annotation
            for part in location:
                here = next((inner for m in members(here) if (inner := below(m, part)) is not Any), Any)
            if date not in members(here):
                yield Problem(path=_path(location), message="a date has no place here", hint="put it into quotes")

    def _table(self, value: dict[Any, Any], location: tuple[str | int, ...]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(key, str) and _is_unicode(key):
                table[key] = self.of(item, (*location, key))
            else:
                self._refuse((*location, ascii(key)), "a key is text")
        return table

    def _refuse(self, location: tuple[str | int, ...], message: str, *, hint: str = "") -> None:
        # A bomb has as many findings as bytes; the first few say all there is to say.
        if len(self.problems) < 100:
            self.problems.append(Problem(path=_path(location), message=message, hint=hint))


def problems_of(error: ValidationError, *, prefix: str = "", root: Any = Any) -> tuple[Problem, ...]:
    """Pydantic's findings in the document's own words.

    Args:
        error: what pydantic raised.
        prefix: the path of what was validated.
        root: the annotation that it was validated against; without it, paths through unions name branches.
    """
    single: list[Problem] = []
    unions: dict[str, list[tuple[Place, Any]]] = {}
    for finding in error.errors(include_url=False):
        if finding["type"] == UNKNOWN_KEY:
            continue
        place = locate(root, finding["loc"])
        if place.union is not None:
            unions.setdefault(place.union, []).append((place, finding))
        else:
            single += _problems(finding, place)
    for path, findings in unions.items():
        single += _union_problems(path, findings)
    return tuple(moved(problem, prefix) for problem in single)


def _union_problems(path: str, findings: Sequence[tuple[Place, Any]]) -> Iterable[Problem]:
    """A union fails in every branch; only the branch that the author meant is told, or else what may stand there."""
    kinds = [finding for place, finding in findings if place.at_branch and finding["type"] in _KINDS]
    meant = [(place, finding) for place, finding in findings if not any(finding is kind for kind in kinds)]
    if meant:
        problems = [problem for place, finding in meant for problem in _problems(finding, place)]
        return dict.fromkeys(problems)
    words = dict.fromkeys(_KINDS[finding["type"]] for finding in kinds)
    if _KINDS["float_type"] in words:
        words.pop(_KINDS["int_type"], None)
    return [Problem(path=path, message="wrong type", expected=" or ".join(words), got=short(kinds[0]["input"]))]


def _problems(finding: Any, place: Place) -> Iterable[Problem]:
    if finding["type"] == _SEVERAL:
        return [moved(problem, place.path) for problem in finding["ctx"]["problems"]]
    if finding["type"] == "too_short" and len(finding["input"]) >= finding["ctx"]["min_length"]:
        return []  # pydantic counts only the valid items; what is wrong with the others is told on its own
    return [_problem(finding, place)]


def _problem(finding: Any, place: Place) -> Problem:
    kind, context, got = finding["type"], finding.get("ctx", {}), short(finding["input"])
    path, message = place.path, "not allowed as a name" if place.key else "not allowed"
    if kind == "missing":
        return Problem(path=path, message="missing")
    if kind in ("value_error", "assertion_error"):
        return Problem(path=path, message=str(context["error"]))
    if kind in _KINDS:
        return Problem(path=path, message="wrong type", expected=_KINDS[kind], got=got)
    if kind in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']*)'", context["expected"])
        hint = near(got.strip("'"), allowed)
        return Problem(path=path, message=message, got=got, expected=context["expected"], hint=hint)
    if kind in _BOUNDS:
        return Problem(path=path, message="out of bounds", got=_size(finding) or got, expected=_BOUNDS[kind](context))
    if kind == "string_pattern_mismatch":
        expected = WORDS.get(context["pattern"], f"text like {context['pattern']}")
        return Problem(path=path, message=message, got=got, expected=expected)
    text = finding["msg"]
    return Problem(path=path, message=text[0].lower() + text[1:], got=got)


def _size(finding: Any) -> str:
    return str(finding["ctx"]["actual_length"]) if "actual_length" in finding.get("ctx", {}) else ""


_KINDS: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "bytes_type": "bytes",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "date_type": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "date_from_datetime_inexact": "a date such as 2026-01-31",
}
"""What may stand where the kind of a value is wrong."""

_BOUNDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "greater_than_equal": lambda context: f"at least {context['ge']}",
    "greater_than": lambda context: f"above {context['gt']}",
    "less_than_equal": lambda context: f"at most {context['le']}",
    "less_than": lambda context: f"below {context['lt']}",
    "multiple_of": lambda context: f"a multiple of {context['multiple_of']}",
    "too_short": lambda context: f"at least {context['min_length']} of them",
    "too_long": lambda context: f"at most {context['max_length']} of them",
    "string_too_short": lambda context: f"at least {context['min_length']} characters",
    "string_too_long": lambda context: f"at most {context['max_length']} characters",
}


def moved(problem: Problem, prefix: str) -> Problem:
    """The same problem of a part that stands at `prefix`."""
    if not prefix:
        return problem
    path = prefix + (problem.path if problem.path.startswith("[") or not problem.path else f".{problem.path}")
    return replace(problem, path=path)


def _path(location: Iterable[str | int]) -> str:
    path = ""
    for part in location:
        path = join(path, part)
    return path


def _is_unicode(text: str) -> bool:
    # JSON's escapes can write half of a surrogate pair, which no UTF-8 file can hold.
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def near(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like this one, or nothing."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {found[0]!r}?" if found else ""


def short(value: Any) -> str:
    """A value for a message, on one line and of a length that people read."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
