"""What all documents share: frozen, no unknown keys, every finding told at once with its path."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from sdkpack.documents import patterns
from sdkpack.documents.findings import UNKNOWN_KEY, Plain, problems_of, short
from sdkpack.documents.shape import EXTENSION_PREFIX, unknown_keys
from sdkpack.errors import DocumentError, DocumentVersionError, Problem, SdkpackError

__all__ = ["EXTENSION_PREFIX", "Document", "Json", "Name", "NamespacedName", "Part", "json_object", "problems_of"]

Json = JsonValue

Name = Annotated[str, Field(pattern=patterns.NAME, max_length=64)]
"""What the author calls a model, pipeline, target, value."""

NamespacedName = Annotated[str, Field(pattern=patterns.NAMESPACED_NAME, max_length=128)]
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
            raise PydanticCustomError(UNKNOWN_KEY, "unknown key {key}", {"key": unknown[0]})
        return self

    @classmethod
    def word(cls) -> str:
        """What messages call it."""
        return cls.__name__.lower()

    @classmethod
    def from_object(cls, value: Any, *, where: str = "") -> Self:
        """Validates JSON values (dict, list, str, int, float, bool), and dates as TOML has them.

        Raises:
            DocumentError: it breaks the schema; all findings at once.
        """
        if not isinstance(value, dict):
            raise DocumentError(f"a {cls.word()} is a table of keys, got {short(value)}", where=where)
        plain = Plain()
        clean = plain.of(value)
        problems = [*plain.problems, *plain.misplaced_dates(cls)]
        told = {problem.path for problem in problems}
        made, cause = None, None
        try:
            # JSON mode: strict Python mode would refuse lists for tuples. By alias alone: an author who writes the
            # field's inner name has made a typo.
            made = cls.model_validate_json(
                json.dumps(clean, allow_nan=False), strict=True, by_alias=True, by_name=False
            )
        except ValidationError as error:
            cause = error
            found = [*unknown_keys(cls, clean), *problems_of(error, root=cls)]
            problems += [problem for problem in found if problem.path not in told]
        problems += cls._findings(clean)
        if problems or made is None:
            count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise DocumentError(f"{count} in this {cls.word()}", where=where, problems=problems) from cause
        return made

    @classmethod
    def _findings(cls, value: dict[str, Any]) -> list[Problem]:
        """What pydantic does not see in the plain values."""
        return []

    def to_object(self) -> dict[str, Any]:
        """JSON values; an absent value is an absent key, all else is written."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """The text form of generated documents: sorted keys, two spaces, a line end."""
        return json.dumps(self.to_object(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


class Document(Part):
    """A whole file. Subclasses name themselves in `kind` and have a field of that name that holds the version."""

    kind: ClassVar[str]
    newest: ClassVar[int] = 1
    too_new: ClassVar[type[SdkpackError]] = DocumentVersionError
    """Raised for a version that this sdkpack does not know."""

    @classmethod
    def word(cls) -> str:
        return cls.kind

    @classmethod
    def from_toml(cls, text: str | bytes, *, where: str = "") -> Self:
        """Reads a TOML document.

        Raises:
            DocumentError: it is no TOML or breaks the schema; all findings at once.
        """
        try:
            value = tomllib.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
        except RecursionError:
            raise DocumentError("nested too deeply", where=where) from None
        except ValueError as error:  # also TOMLDecodeError, UnicodeDecodeError, and a number of too many digits
            raise DocumentError(f"not valid TOML: {_sentence(error)}", where=where) from error
        return cls.from_object(value, where=where)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "") -> Self:
        """Reads a JSON document; a key that stands twice is refused."""
        return cls.from_object(json_object(text, where=where), where=where)

    @classmethod
    def from_object(cls, value: Any, *, where: str = "") -> Self:
        """Validates JSON values; see `Part.from_object`.

        Raises:
            DocumentError: it breaks the schema; all findings at once.
            DocumentVersionError: it was written for a newer sdkpack (`FormatVersionError` for a bundle's manifest).
        """
        found = value.get(cls.kind) if isinstance(value, dict) else None
        if type(found) is int and found > cls.newest:
            raise cls.too_new(
                f"this {cls.kind} has version {short(found)}, this sdkpack reads up to {cls.newest}",
                hint="update it: pip install --upgrade sdkpack",
                where=where,
            )
        return super().from_object(value, where=where)

    @classmethod
    def _findings(cls, value: dict[str, Any]) -> list[Problem]:
        found = value.get(cls.kind)
        # To Python, and so to pydantic's Literal, True and 1.0 equal 1; to the format they do not.
        if found == cls.newest and type(found) is not int:
            return [Problem(path=cls.kind, message="wrong type", expected=str(cls.newest), got=short(found))]
        return []


def json_object(text: str | bytes, *, where: str = "") -> Any:
    """Parses JSON, refusing keys that stand twice and numbers that JSON does not have.

    Raises:
        DocumentError: it is no such JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, item in pairs:
            if key in seen:
                raise DocumentError(f"key {short(key)} stands twice in one object", where=where)
            seen[key] = item
        return seen

    def no_constant(name: str) -> None:
        raise DocumentError(f"{name} is not a JSON number", where=where)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except RecursionError:
        raise DocumentError("nested too deeply", where=where) from None
    except ValueError as error:
        raise DocumentError(f"not valid JSON: {_sentence(error)}", where=where) from error


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
