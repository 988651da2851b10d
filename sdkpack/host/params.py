"""Parameters of plugins: JSON on the disk, frozen dataclasses in the plugin's hands."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sdkpack.documents.base import problems_of
from sdkpack.errors import DocumentError, Problem
from sdkpack.plugin.info import AssetMarker, PluginInfo

__all__ = ["ParamSchema"]


@dataclass(frozen=True)
class ParamSchema:
    """What may be set of one operator, runtime or exporter."""

    info: PluginInfo

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        assert self.info.params is not None
        return TypeAdapter(self.info.params)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(self.info.params)) if self.info.params else ()

    @cached_property
    def assets(self) -> Mapping[str, AssetMarker]:
        """The parameters whose values come from files of the bundle."""
        if self.info.params is None:
            return {}
        hints = typing.get_type_hints(self.info.params, include_extras=True)
        return {name: marker for name in self.names if (marker := _marker_in(hints[name])) is not None}

    def problems(self, values: Mapping[str, Any], *, path: str) -> tuple[Problem, ...]:
        """Everything wrong with `values`."""
        try:
            self.instance(values, path=path)
        except DocumentError as error:
            return error.problems
        return ()

    def instance(self, values: Mapping[str, Any], *, path: str = "") -> Any:
        """The plugin's params dataclass, or None where it has none.

        Raises:
            DocumentError: unknown names or wrong values; all of them at once.
        """
        unknown = [self._unknown(name, path) for name in values if name not in self.names]
        if self.info.params is None:
            if unknown:
                raise DocumentError(f"{self.info.name!r} takes no parameters", problems=unknown)
            return None
        known = {name: value for name, value in values.items() if name in self.names}
        try:
            made = self._adapter.validate_python(known)
        except ValidationError as error:
            problems = [*unknown, *problems_of(error, prefix=path)]
            raise DocumentError(f"parameters of {self.info.name!r} are not valid", problems=problems) from error
        if unknown:
            raise DocumentError(f"parameters of {self.info.name!r} are not valid", problems=unknown)
        return made

    def dump(self, params: Any) -> dict[str, Any]:
        """JSON values of every parameter, defaults written out."""
        if params is None:
            return {}
        dumped: dict[str, Any] = self._adapter.dump_python(params, mode="json")
        return dumped

    def json_schema(self) -> dict[str, Any]:
        return self._adapter.json_schema() if self.info.params else {"type": "object", "properties": {}}

    def _unknown(self, name: str, path: str) -> Problem:
        near = difflib.get_close_matches(name, self.names, n=1)
        expected = f"one of {', '.join(self.names)}" if self.names else "nothing"
        hint = f"did you mean {near[0]!r}?" if near else ""
        where = f"{path}.{name}" if path else name
        return Problem(path=where, message="unknown parameter", expected=expected, hint=hint)


def _marker_in(annotation: Any) -> AssetMarker | None:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, AssetMarker):
            return extra
    for inner in typing.get_args(annotation):
        if (found := _marker_in(inner)) is not None:
            return found
    return None
