"""What the plugins in use bring, by kind and name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from sdkpack.errors import PluginBrokenError, PluginMissingError
from sdkpack.host.choices import PLUGINS, Choices, choices, normal
from sdkpack.host.loading import PluginState, halves_of, import_quietly, installed, kind_of, label_of, load_plugin
from sdkpack.plugin.info import (
    CompressorInfo,
    ConverterInfo,
    ExporterInfo,
    KeyProviderInfo,
    OperatorInfo,
    OptimizerInfo,
    PluginInfo,
    RuntimeInfo,
)

__all__ = ["PluginState", "Registered", "Registry", "load_class"]

InfoT = TypeVar("InfoT", bound=PluginInfo)

_OWN: Final = "sdkpack"
"""The distribution whose plugin is always in use."""


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
        """Every installed plugin, found by its entry point.

        Of those that the user leaves out (`sdkpack.host.choices`) nothing is imported; sdkpack's own is always in use.

        Raises:
            DocumentError: the user's configuration is not valid.
            FileError: it cannot be read.
        """
        import os

        from sdkpack.plugin.hookspecs import ENTRY_POINT_GROUP

        chosen = choices(os.environ)
        states = [_load_installed(*point, chosen) for point in installed(ENTRY_POINT_GROUP)]
        have = {normal(name) for state in states for name in (state.name, state.distribution)}
        return Registry((*states, *(_absent(name, chosen) for name in sorted((chosen.allow or frozenset()) - have))))

    @staticmethod
    def of_modules(modules: Iterable[str]) -> Registry:
        """Just these plugin modules, without a look at what is installed: what a release does."""
        names = dict.fromkeys(modules)
        return Registry(tuple(load_plugin(name.rpartition(".")[0] or name, name, "", "") for name in names))

    def operators(self) -> tuple[Registered[OperatorInfo], ...]:
        return self._rows(OperatorInfo)

    def runtimes(self) -> tuple[Registered[RuntimeInfo], ...]:
        return self._rows(RuntimeInfo)

    def converters(self) -> tuple[Registered[ConverterInfo], ...]:
        return self._rows(ConverterInfo)

    def optimizers(self) -> tuple[Registered[OptimizerInfo], ...]:
        return self._rows(OptimizerInfo)

    def compressors(self) -> tuple[Registered[CompressorInfo], ...]:
        return self._rows(CompressorInfo)

    def tools(self) -> tuple[Registered[PluginInfo], ...]:
        """Every descriptor whose work may be done outside of this process."""
        return tuple(row for row in self._rows(PluginInfo) if halves_of(row.info))

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

    def converter(self, name: str) -> Registered[ConverterInfo]:
        rows = self.converters()
        return self._one([row for row in rows if row.info.name == name], "converter", name, rows)

    def optimizer(self, name: str) -> Registered[OptimizerInfo]:
        rows = self.optimizers()
        return self._one([row for row in rows if row.info.name == name], "optimizer", name, rows)

    def compressor(self, name: str) -> Registered[CompressorInfo]:
        rows = self.compressors()
        return self._one([row for row in rows if row.info.name == name], "compressor", name, rows)

    def exporter(self, name: str) -> Registered[ExporterInfo]:
        return self._one([r for r in self.exporters() if r.info.name == name], "exporter", name, self.exporters())

    def key_provider(self, scheme: str) -> Registered[KeyProviderInfo]:
        """The provider of key references that begin with `scheme:`."""
        rows = self.key_providers()
        return self._one([row for row in rows if scheme in row.info.schemes], "key provider", scheme, rows)

    def conflicts(self) -> tuple[str, ...]:
        """Names that several plugins claim, as sentences."""
        claims: dict[tuple[str, str], list[str]] = {}
        for state in self.plugins:
            if not state.loaded:
                continue
            claims.setdefault(("plugin", state.name), []).append(_source(state))
        for row in self._rows(PluginInfo):
            claims.setdefault((kind_of(row.info), label_of(row.info)), []).append(_source(row.plugin))
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
                hint=f"uninstall one of them, or name the plugins to use in {PLUGINS}",
            )
        if found:
            return found[0]
        article = "an" if kind[0] in "aeiou" else "a"
        raise PluginMissingError(f"no plugin in use has {article} {kind} {name!r}", hint=self._hint_for(name, have))

    def _hint_for(self, name: str, have: Sequence[Registered[InfoT]]) -> str:
        import difflib

        near = difflib.get_close_matches(name, [label for row in have for label in _callable_names(row.info)], n=1)
        broken = [repr(state.name) for state in self.plugins if not state.loaded and not state.left_out]
        left_out = [f"{state.name!r} is {state.reason}" for state in self.plugins if state.left_out]
        hints = [f"did you mean {near[0]!r}?"] if near else []
        if broken:
            # Told beside a near name: what is asked for may well be what the broken plugin would bring.
            one = f"plugin {broken[0]}" if len(broken) == 1 else f"plugins {', '.join(broken)}"
            hints.append(f"{one} did not load, see: sdkpack doctor")
        if left_out:
            hints.append(f"plugin {'; '.join(left_out)}")
        if hints:
            return " ".join(hints)
        return "see what is installed: sdkpack plugins list"


def load_class(registered: Registered[Any], load: str) -> type[Any]:
    """Imports the class that a descriptor names.

    Raises:
        PluginBrokenError: it cannot be imported, or is not there.
    """
    module_name, _, class_name = load.partition(":")
    try:
        found: type[Any] = getattr(import_quietly(module_name), class_name)
        if not callable(found):
            raise TypeError(f"{class_name} is a {type(found).__name__}, no class")
    except (Exception, SystemExit) as error:
        raise PluginBrokenError(
            f"plugin {registered.plugin.name!r}: {registered.info.name!r} cannot be loaded from {load}: "
            f"{type(error).__name__}: {error}",
            hint=_hint_for_import(error, registered),
        ) from error
    return found


def _hint_for_import(error: BaseException, registered: Registered[Any]) -> str:
    if isinstance(error, ImportError) and registered.info.requires:
        return f"install what it needs: pip install {' '.join(registered.info.requires)}"
    return f"reinstall or update {registered.plugin.distribution or registered.plugin.module}"


def _load_installed(name: str, module: str, distribution: str, version: str, chosen: Choices) -> PluginState:
    reason = "" if normal(distribution) == _OWN else chosen.left_out(name, distribution)
    if not reason:
        return load_plugin(name, module, distribution, version)
    return PluginState(
        name=name, module=module, distribution=distribution, version=version, api=None, reason=reason, left_out=True
    )  # fmt: skip


def _absent(name: str, chosen: Choices) -> PluginState:
    reason = f"named in {chosen.allowed_by}, but not installed"
    mend = f"install what brings it, or take it out of {chosen.allowed_by}"
    return PluginState(name=name, module="", distribution="", version="", api=None, reason=reason, mend=mend)


def _callable_names(info: PluginInfo) -> Sequence[str]:
    return info.schemes if isinstance(info, KeyProviderInfo) else (info.name,)


def _source(plugin: PluginState) -> str:
    return f"{plugin.distribution} {plugin.version}".strip() or plugin.module
