"""Finds and loads plugins so that a broken one costs nothing but itself.

pluggy's own entry-point loader lets one broken plugin end the tool, one raising hook lose every other plugin's rows,
and a misspelt hook pass unseen. Here each plugin has a manager of its own: it is imported, checked and asked for its
rows inside one try, and what went wrong is kept for `sdkpack plugins` and `sdkpack doctor`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sdkpack.errors import PluginBrokenError, PluginMissingError, UsageError
from sdkpack.plugin.info import (
    API_VERSION,
    ExporterInfo,
    KeyProviderInfo,
    OperatorInfo,
    PluginInfo,
    RuntimeInfo,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["PluginState", "Registered", "Registry", "load_class"]

_log = logging.getLogger("sdkpack.host")

InfoT = TypeVar("InfoT", bound=PluginInfo)

_HOOKS: Final[Mapping[str, type[PluginInfo]]] = {
    "sdkpack_operators": OperatorInfo,
    "sdkpack_runtimes": RuntimeInfo,
    "sdkpack_exporters": ExporterInfo,
    "sdkpack_key_providers": KeyProviderInfo,
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*([.-][a-z0-9_]+)*")
_LOAD: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BUILTIN: Final = "builtin"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginState:
    """One plugin module and what became of it."""

    name: str
    module: str
    distribution: str
    version: str
    api: tuple[int, int] | None
    reason: str = ""
    """Why it is not used; empty where it is."""
    rows: tuple[PluginInfo, ...] = ()

    @property
    def loaded(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Registered(Generic[InfoT]):
    """A descriptor and the plugin that it came from."""

    info: InfoT
    plugin: PluginState


@dataclass(frozen=True, slots=True)
class Registry:
    """What the plugins that are in use bring. Made anew where it is needed; there is no global one."""

    plugins: tuple[PluginState, ...] = field(default=())

    @staticmethod
    def scan() -> Registry:
        """Every installed plugin, found by its entry point."""
        import importlib.metadata
        import os

        from sdkpack.plugin.hookspecs import ENTRY_POINT_GROUP

        points = sorted(
            importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)
        )
        allowed = os.environ.get("SDKPACK_PLUGINS")
        names = None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}
        return Registry(tuple(_load_entry_point(point, names) for point in points))

    @staticmethod
    def of_modules(modules: Iterable[str]) -> Registry:
        """Just these plugin modules, without a look at what is installed: what a release does."""
        states = (_load(module.rpartition(".")[0] or module, module, "", "") for module in modules)
        return Registry(tuple(states))

    def operators(self) -> tuple[Registered[OperatorInfo], ...]:
        return self._rows(OperatorInfo)

    def runtimes(self) -> tuple[Registered[RuntimeInfo], ...]:
        return self._rows(RuntimeInfo)

    def exporters(self) -> tuple[Registered[ExporterInfo], ...]:
        return self._rows(ExporterInfo)

    def key_providers(self) -> tuple[Registered[KeyProviderInfo], ...]:
        return self._rows(KeyProviderInfo)

    def operator(self, name: str, version: int | None = None) -> Registered[OperatorInfo]:
        """The operator of this name, of this version or else the newest.

        Raises:
            PluginMissingError: no plugin in use has it; near names are told.
            PluginBrokenError: two plugins claim it.
        """
        found = [row for row in self.operators() if row.info.name == name]
        if version is None and found:
            version = max(row.info.version for row in found)
        fitting = [row for row in found if row.info.version == version]
        if found and not fitting:
            have = ", ".join(sorted({f"{name}/{row.info.version}" for row in found}))
            raise PluginMissingError(
                f"operator {name}/{version} is not installed, only {have}",
                hint=f"install a version of {found[0].plugin.distribution or found[0].plugin.module} that has it",
            )
        return self._one(fitting, "operator", name, self.operators())

    def runtime(self, name: str) -> Registered[RuntimeInfo]:
        return self._one([r for r in self.runtimes() if r.info.name == name], "runtime", name, self.runtimes())

    def exporter(self, name: str) -> Registered[ExporterInfo]:
        return self._one([r for r in self.exporters() if r.info.name == name], "exporter", name, self.exporters())

    def key_provider(self, scheme: str) -> Registered[KeyProviderInfo]:
        """The provider of key references that begin with `scheme:`."""
        rows = self.key_providers()
        return self._one([row for row in rows if scheme in row.info.schemes], "key provider", scheme, rows)

    def conflicts(self) -> tuple[str, ...]:
        """Names that several plugins claim, as sentences."""
        claims: dict[tuple[str, str], list[str]] = {}
        for row in self._rows(PluginInfo):
            claims.setdefault((_kind(row.info), _label(row.info)), []).append(_source(row.plugin))
        return tuple(
            f"{kind} {label!r} is claimed by {' and '.join(sources)}"
            for (kind, label), sources in sorted(claims.items())
            if len(sources) > 1
        )

    def _rows(self, kind: type[InfoT]) -> tuple[Registered[InfoT], ...]:
        return tuple(Registered(row, state) for state in self.plugins for row in state.rows if isinstance(row, kind))

    def _one(
        self, found: Sequence[Registered[InfoT]], kind: str, name: str, have: Sequence[Registered[InfoT]]
    ) -> Registered[InfoT]:
        if len(found) > 1:
            raise PluginBrokenError(
                f"{kind} {name!r} is claimed by {' and '.join(_source(row.plugin) for row in found)}",
                hint="uninstall one of them, or name the plugins to use in SDKPACK_PLUGINS",
            )
        if found:
            return found[0]
        raise PluginMissingError(f"no plugin in use has a {kind} {name!r}", hint=self._hint_for(name, have))

    def _hint_for(self, name: str, have: Sequence[Registered[InfoT]]) -> str:
        import difflib

        near = difflib.get_close_matches(name, [row.info.name for row in have], n=1)
        broken = [state.name for state in self.plugins if not state.loaded]
        if near:
            return f"did you mean {near[0]!r}?"
        if broken:
            return f"plugin {broken[0]!r} did not load, see: sdkpack doctor"
        return "see what is installed: sdkpack plugins list"


def load_class(registered: Registered[Any], load: str) -> type[Any]:
    """Imports the class that a descriptor names.

    Raises:
        PluginBrokenError: it cannot be imported, or is not there.
    """
    module_name, _, class_name = load.partition(":")
    try:
        found: type[Any] = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        raise PluginBrokenError(
            f"plugin {registered.plugin.name!r}: {registered.info.name!r} cannot be loaded from {load}: "
            f"{type(error).__name__}: {error}",
            hint=_hint_for_import(error, registered),
        ) from error
    return found


def _hint_for_import(error: Exception, registered: Registered[Any]) -> str:
    if isinstance(error, ImportError) and registered.info.requires:
        return f"install what it needs: pip install {' '.join(registered.info.requires)}"
    return f"reinstall or update {registered.plugin.distribution or registered.plugin.module}"


def _load_entry_point(point: EntryPoint, allowed: set[str] | None) -> PluginState:
    distribution = point.dist.name if point.dist else ""
    version = point.dist.version if point.dist else ""
    if allowed is not None and point.name not in allowed and point.name != "builtin":
        return PluginState(
            name=point.name, module=point.value, distribution=distribution, version=version, api=None,
            reason="not in SDKPACK_PLUGINS",
        )  # fmt: skip
    return _load(point.name, point.value, distribution, version)


def _load(name: str, module_name: str, distribution: str, version: str) -> PluginState:
    api: tuple[int, int] | None = None
    rows: tuple[PluginInfo, ...] = ()
    reason = ""
    try:
        # stdout carries results alone: a plugin that greets its user would break `--json`.
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
            api = _api_of(module)
            rows = _ask(module, name)
    except _RefusedError as error:
        reason = str(error)
    except (Exception, SystemExit) as error:
        # Not ImportError alone: what a plugin's modules raise is up to them, sys.exit() included. ^C passes.
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    if reason:
        _log.debug("plugin %s did not load: %s", name, reason)
    return PluginState(
        name=name, module=module_name, distribution=distribution, version=version, api=api, reason=reason, rows=rows
    )


class _RefusedError(Exception):
    """Why a plugin is not used, in words for its author."""


def _api_of(module: object) -> tuple[int, int]:
    api = getattr(module, "SDKPACK_API", None)
    if not (isinstance(api, tuple) and len(api) == 2 and all(isinstance(part, int) for part in api)):
        raise _RefusedError("does not say which plugin API it is for: SDKPACK_API = (1, 0) is missing")
    if api[0] != API_VERSION[0] or api[1] > API_VERSION[1]:
        have = ".".join(map(str, API_VERSION))
        raise _RefusedError(f"is for plugin API {api[0]}.{api[1]}, this sdkpack has {have}")
    return api[0], api[1]


def _ask(module: object, name: str) -> tuple[PluginInfo, ...]:
    import pluggy

    from sdkpack.plugin import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _RefusedError(f"{_unknown_hook(str(error))}; hooks are {', '.join(_HOOKS)}") from error
    rows: list[PluginInfo] = []
    for hook, kind in _HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            rows += _rows_of(implementation.function, hook, kind)
    _no_name_twice(rows)
    return tuple(rows)


def _rows_of(function: Callable[[], object], hook: str, kind: type[PluginInfo]) -> Iterable[PluginInfo]:
    # Called directly, not through the manager: pluggy drops None, and an author who forgot `return` must be told.
    try:
        result = function()
        if not isinstance(result, Iterable) or isinstance(result, str | bytes):
            raise _RefusedError(f"{hook} returned {_kind_of(result)}, expected a list of {kind.__name__}")
        return [_checked(row, kind, hook) for row in result]
    except _RefusedError:
        raise
    except (Exception, SystemExit) as error:
        raise _RefusedError(f"{hook} raised {type(error).__name__}: {error}") from error


def _no_name_twice(rows: Iterable[PluginInfo]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        claim = (_kind(row), _label(row))
        if claim in seen:
            raise _RefusedError(f"has two rows for {claim[0]} {claim[1]!r}")
        seen.add(claim)


def _unknown_hook(text: str) -> str:
    words = text.split("'")
    return f"implements {words[1]!r}, which is no hook" if len(words) > 1 else text


def _checked(row: object, kind: type[PluginInfo], hook: str) -> PluginInfo:
    if not isinstance(row, kind):
        raise _RefusedError(f"{hook} returned a list with {_kind_of(row)} in it, expected {kind.__name__}")
    if not (isinstance(row.name, str) and _NAME.fullmatch(row.name)):
        raise _RefusedError(f"{hook} returned the name {row.name!r}, expected lower case such as acme.npu2")
    if row.params is not None and not (isinstance(row.params, type) and dataclasses.is_dataclass(row.params)):
        raise _RefusedError(f"{hook} returned {row.name!r} with params {row.params!r}, expected a dataclass or None")
    loads = [half.load for half in (row.compiler, row.runner) if half] if isinstance(row, RuntimeInfo) else []
    for load in [row.load] if isinstance(row, OperatorInfo | ExporterInfo | KeyProviderInfo) else loads:
        if not (isinstance(load, str) and _LOAD.fullmatch(load)):
            raise _RefusedError(f"{hook} returned {row.name!r} with load {load!r}, expected 'package.module:Class'")
    return row


def _kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _label(info: PluginInfo) -> str:
    return f"{info.name}/{info.version}" if isinstance(info, OperatorInfo) else info.name


def _kind(info: PluginInfo) -> str:
    return type(info).__name__.removesuffix("Info").lower()


def _source(plugin: PluginState) -> str:
    return f"{plugin.distribution} {plugin.version}".strip() or plugin.module


def require_capability(registered: Registered[Any], word: str, purpose: str) -> None:
    """Refuses what a plugin does not say that it can do."""
    if word not in registered.info.capabilities:
        raise UsageError(f"{registered.info.name!r} cannot {purpose}: it has no capability {word!r}")
