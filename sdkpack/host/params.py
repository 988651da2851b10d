"""Parameters of plugins: JSON on the disk, frozen dataclasses in the plugin's hands."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sdkpack.documents.findings import Plain, moved, problems_of
from sdkpack.documents.shape import join, unknown_keys
from sdkpack.errors import DocumentError, PluginBrokenError, Problem
from sdkpack.plugin.info import AssetMarker, PluginInfo

__all__ = ["ParamSchema"]


@dataclass(frozen=True)
class ParamSchema:
    """What may be set of one operator, runtime or exporter.

    Raises:
        PluginBrokenError: (at first use) the params dataclass has annotations that cannot be read.
    """

    info: PluginInfo

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        if self.info.params is None:
            return {}
        try:
            hints = typing.get_type_hints(self.info.params, include_extras=True)
        except Exception as error:
            raise self._broken(error) from error
        return {field.name: hints[field.name] for field in dataclasses.fields(self.info.params) if field.init}

    @cached_property
    def _adapters(self) -> Mapping[str, TypeAdapter[Any]]:
        try:
            return {name: TypeAdapter(hint) for name, hint in self._hints.items()}
        except Exception as error:
            raise self._broken(error) from error

    @cached_property
    def _required(self) -> frozenset[str]:
        fields = dataclasses.fields(self.info.params) if self.info.params else ()
        absent = dataclasses.MISSING
        return frozenset(f.name for f in fields if f.init and f.default is absent and f.default_factory is absent)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._hints)

    @cached_property
    def assets(self) -> Mapping[str, AssetMarker]:
        """The parameters whose values come from files of the bundle."""
        return {name: marker for name, hint in self._hints.items() if (marker := _marker_in(hint)) is not None}

    def problems(self, values: Mapping[str, Any], *, path: str) -> tuple[Problem, ...]:
        """Everything wrong with `values`."""
        try:
            self.instance(values, path=path)
        except DocumentError as error:
            return error.problems
        return ()

    def instance(self, values: Mapping[str, Any], *, path: str = "") -> Any:
        """The plugin's params dataclass, or None where it has none.

        Args:
            values: JSON values; an asset may also be its content, as `bytes` or a tuple of `str`.
            path: where in the document they stand.

        Raises:
            DocumentError: unknown names or wrong values; all of them at once.
        """
        problems = [self._unknown(name, path) for name in values if name not in self._hints]
        if self.info.params is None:
            if problems:
                raise DocumentError(f"{self.info.name!r} takes no parameters", problems=problems)
            return None
        missing = sorted(self._required - values.keys())
        problems += [Problem(path=join(path, name), message="missing") for name in missing]
        made: dict[str, Any] = {}
        for name in self._hints.keys() & values.keys():
            made[name] = self._value(name, values[name], join(path, name), problems)
        if not problems:
            try:
                return self.info.params(**made)
            except (ValueError, TypeError) as error:
                problems.append(Problem(path=path, message=str(error)))
        raise DocumentError(f"parameters of {self.info.name!r} are not valid", problems=sorted(problems, key=_by_path))

    def dump(self, params: Any) -> dict[str, Any]:
        """JSON values of every parameter, defaults written out; a parameter that is None is absent."""
        if params is None:
            return {}
        values = {name: adapter.dump_python(getattr(params, name), mode="json", exclude_none=True)
                  for name, adapter in self._adapters.items()}  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}

    def json_schema(self) -> dict[str, Any]:
        if self.info.params is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        try:
            return {**TypeAdapter(self.info.params).json_schema(), "additionalProperties": False}
        except Exception as error:
            raise self._broken(error) from error

    def _value(self, name: str, value: Any, path: str, problems: list[Problem]) -> Any:
        hint, adapter = self._hints[name], self._adapters[name]
        try:
            if isinstance(value, bytes):
                return adapter.validate_python(value, strict=True)
            plain = Plain()
            clean = plain.of(value)
            found = [*plain.problems, *plain.misplaced_dates(hint), *unknown_keys(hint, clean)]
            problems += [moved(problem, path) for problem in found]
            if plain.problems:
                return None
            # JSON mode takes a list for a tuple and a table for a dataclass, and still no "1" for 1.
            return adapter.validate_json(json.dumps(clean, allow_nan=False), strict=True)
        except ValidationError as error:
            problems += problems_of(error, prefix=path, root=hint)
        except (TypeError, AttributeError) as error:
            # A nested dataclass's own __post_init__: pydantic passes on what is no ValueError.
            problems.append(Problem(path=path, message=str(error)))
        return None

    def _unknown(self, name: str, path: str) -> Problem:
        near = difflib.get_close_matches(name, self.names, n=1)
        expected = f"one of {', '.join(self.names)}" if self.names else "nothing"
        hint = f"did you mean {near[0]!r}?" if near else ""
        return Problem(path=join(path, name), message="unknown parameter", expected=expected, hint=hint)

    def _broken(self, error: Exception) -> PluginBrokenError:
        return PluginBrokenError(f"the params of {self.info.name!r} cannot be read: {type(error).__name__}: {error}")


def _by_path(problem: Problem) -> str:
    return problem.path


def _marker_in(annotation: Any) -> AssetMarker | None:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, AssetMarker):
            return extra
    for inner in typing.get_args(annotation):
        if (found := _marker_in(inner)) is not None:
            return found
    return None
