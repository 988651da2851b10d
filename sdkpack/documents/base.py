"""What all documents share: frozen, no unknown keys, every finding told at once with its path."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sdkpack.errors import DocumentError, FormatVersionError, Problem

__all__ = ["EXTENSION_PREFIX", "Document", "Json", "Name", "NamespacedName", "Part", "json_object", "problems_of"]

EXTENSION_PREFIX: Final = "x-"
"""Keys that a reader may ignore: the only free space in a document."""

_UNKNOWN: Final = "unknown_key"

Json = JsonValue

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=64)]
"""What the author calls a model, pipeline, target, value."""

NamespacedName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*([.-][a-z0-9_]+)*$", max_length=128)]
"""What a plugin calls what it brings: `image.resize`, `acme.npu2`. Never a closed list."""


def _only_extensions(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = False
    schema["patternProperties"] = {f"^{EXTENSION_PREFIX}": {}}


class Part(BaseModel):
    """A section of a document."""

    # Unknown keys are let through here and refused below: `extra="forbid"` could make no exception for x- keys.
    model_config = ConfigDict(
        frozen=True, extra="allow", allow_inf_nan=False, populate_by_name=True, json_schema_extra=_only_extensions
    )

    @model_validator(mode="after")
    def _no_unknown_keys(self) -> Self:
        unknown = sorted(key for key in self.model_extra or {} if not key.startswith(EXTENSION_PREFIX))
        if unknown:
            raise PydanticCustomError(_UNKNOWN, "unknown key {key}", {"key": unknown[0]})
        return self


class Document(Part):
    """A whole file. Subclasses name themselves in `kind` and have a field of that name that holds the version."""

    kind: ClassVar[str]
    newest: ClassVar[int] = 1

    @classmethod
    def from_toml(cls, text: str, *, where: str = "") -> Self:
        """Reads a TOML document.

        Raises:
            DocumentError: it is no TOML or breaks the schema; all findings at once.
        """
        try:
            return cls.from_object(tomllib.loads(text), where=where)
        except tomllib.TOMLDecodeError as error:
            raise DocumentError(f"not valid TOML: {str(error)[0].lower()}{str(error)[1:]}", where=where) from error

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "") -> Self:
        """Reads a JSON document; a key that stands twice is refused."""
        return cls.from_object(json_object(text, where=where), where=where)

    @classmethod
    def from_object(cls, value: Any, *, where: str = "") -> Self:
        """Validates JSON values (dict, list, str, int, float, bool)."""
        if not isinstance(value, dict):
            raise DocumentError(f"a {cls.kind} is a table of keys, got {type(value).__name__}", where=where)
        cls._check_version(value, where)
        try:
            return cls.model_validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            problems = (*_unknown_keys(cls, value, ""), *problems_of(error))
            count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise DocumentError(f"{count} in this {cls.kind}", where=where, problems=problems) from error

    @classmethod
    def _check_version(cls, value: dict[str, Any], where: str) -> None:
        found = value.get(cls.kind)
        if isinstance(found, int) and not isinstance(found, bool) and found > cls.newest:
            raise FormatVersionError(
                f"this {cls.kind} has version {found}, this sdkpack reads up to {cls.newest}",
                hint="update it: pip install --upgrade sdkpack",
                where=where,
            )

    def to_object(self) -> dict[str, Any]:
        """JSON values; an absent value is an absent key, all else is written."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """The text form of generated documents: sorted keys, two spaces, a line end."""
        return json.dumps(self.to_object(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def json_object(text: str | bytes, *, where: str = "") -> Any:
    """Parses JSON, refusing keys that stand twice and numbers that JSON does not have."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
            raise DocumentError(f"key {twice[0]!r} stands twice in one object", where=where)
        return seen

    def no_constant(name: str) -> None:
        raise DocumentError(f"{name} is not a JSON number", where=where)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except RecursionError:
        raise DocumentError("nested too deeply", where=where) from None
    except ValueError as error:
        raise DocumentError(f"not valid JSON: {error}", where=where) from error


def problems_of(error: ValidationError, *, prefix: str = "") -> tuple[Problem, ...]:
    """Pydantic's findings in the document's own words: path, got, expected, near match."""
    findings = error.errors(include_url=False)
    return tuple(_problem(finding, prefix) for finding in findings if finding["type"] != _UNKNOWN)


def _problem(finding: Any, prefix: str) -> Problem:
    path = _path(finding["loc"], prefix)
    got = _short(finding["input"])
    match finding["type"]:
        case "missing":
            return Problem(path=path, message="missing")
        case "value_error":
            return Problem(path=path, message=str(finding["ctx"]["error"]))
        case "literal_error":
            expected = finding["ctx"]["expected"]
            near = difflib.get_close_matches(got.strip("'"), [word.strip("'") for word in expected.split(" or ")], n=1)
            hint = f"did you mean {near[0]!r}?" if near else ""
            return Problem(path=path, message="not allowed", got=got, expected=expected, hint=hint)
        case _:
            message = finding["msg"]
            return Problem(path=path, message=message[0].lower() + message[1:], got=got)


def _path(location: Iterable[str | int], prefix: str) -> str:
    path = prefix
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.startswith(("function-", "constrained-", "tagged-")) or part in _UNION_LABELS:
            continue
        else:
            path += f".{part}" if path else part
    return path


# Pydantic names the branch of a union in the location; an author does not write those.
_UNION_LABELS: Final = frozenset({"str", "int", "float", "bool", "list[str]", "dict[str,str]", "tuple[str, ...]"})


def _unknown_keys(model: type[BaseModel], value: Any, path: str) -> Iterable[Problem]:
    """Every key of `value`, at any depth, that the schema does not have."""
    if not isinstance(value, dict):
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, item in value.items():
        where = f"{path}.{key}" if path else str(key)
        if key in fields:
            yield from _unknown_below(fields[key].annotation, item, where)
        elif not str(key).startswith(EXTENSION_PREFIX):
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else ""
            yield Problem(path=where, message="unknown key", expected=f"one of {', '.join(sorted(fields))}", hint=hint)


def _unknown_below(annotation: Any, value: Any, path: str) -> Iterable[Problem]:
    for model in _models_in(annotation):
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from _unknown_keys(model, item, f"{path}[{number}]")
        elif get_origin(annotation) is dict and isinstance(value, dict):
            for key, item in value.items():
                items = item if isinstance(item, list) else [item]
                for number, one in enumerate(items):
                    place = f"{path}.{key}[{number}]" if isinstance(item, list) else f"{path}.{key}"
                    yield from _unknown_keys(model, one, place)
        else:
            yield from _unknown_keys(model, value, path)


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
