"""Which plugins use what is to go from the plugin API: told by `sdkpack plugins list`, `doctor` and the kit."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sdkpack.host.loading import PluginState, halves_of
from sdkpack.plugin import deprecations
from sdkpack.plugin.deprecations import Deprecation
from sdkpack.plugin.info import PluginInfo

__all__ = ["deprecated_uses"]

_API: Final = "sdkpack.plugin"


def deprecated_uses(state: PluginState, table: Iterable[Deprecation] | None = None) -> tuple[str, ...]:
    """What a plugin uses of `table`, as sentences.

    Fields and words are seen in its descriptors. Names are looked for in the text of its package, whose heavy modules
    are not imported for that.
    """
    entries = tuple(deprecations.DEPRECATIONS if table is None else table)
    if not entries or not state.loaded:
        return ()
    wanted = any(entry.kind == "name" for entry in entries)
    names = set(_names_in(state.module)) if wanted else set()
    return tuple(str(entry) for entry in entries if _uses(state.rows, names, entry))


def _uses(rows: Sequence[PluginInfo], names: set[str], entry: Deprecation) -> bool:
    if entry.kind == "name":
        return entry.what in names
    if entry.kind == "word":
        return any(entry.what in row.capabilities for row in rows)
    kind, _, field = entry.what.partition(".")
    return any(_sets(part, field) for part in _descriptors(rows) if type(part).__name__ == kind)


def _descriptors(rows: Sequence[PluginInfo]) -> Iterator[Any]:
    """Rows, and the dataclasses inside them."""
    for row in rows:
        yield row
        for half in halves_of(row).values():
            yield half
            if half.environment is not None:
                yield half.environment
        for name in ("inputs", "outputs", "magics"):
            yield from getattr(row, name, ())


def _sets(descriptor: Any, name: str) -> bool:
    """Whether a field has another value than its default."""
    for field in dataclasses.fields(descriptor):
        if field.name == name:
            value = getattr(descriptor, name)
            default = field.default_factory() if callable(field.default_factory) else field.default
            return bool(value != default)
    return False


def _names_in(module: str) -> Iterator[str]:
    """Names of the plugin API that a plugin's package mentions."""
    for path in _sources(module):
        # A file that is no Python of this version says nothing.
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_API):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.Attribute):
                    # `plugin.Cache`, however the module is called there: rather one too many than one too few.
                    yield node.attr


def _sources(module: str) -> list[Path]:
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is not None and spec.submodule_search_locations:
            return sorted(path for place in spec.submodule_search_locations for path in Path(place).rglob("*.py"))
        if spec is not None and spec.origin:
            return [Path(spec.origin)]
    return []
