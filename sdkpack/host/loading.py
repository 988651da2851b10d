"""Loads one plugin module so that, if it is broken, it costs nothing but itself.

pluggy's own entry-point loader lets one broken plugin end the tool, one raising hook lose every other plugin's rows,
and a misspelt hook pass unseen. Here each plugin has a manager of its own: it is imported, checked and asked for its
rows inside one try, and what went wrong is kept for `sdkpack plugins` and `sdkpack doctor`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.metadata
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.plugin.info import (
    API_VERSION,
    CompressorInfo,
    ConverterInfo,
    ExporterInfo,
    Half,
    KeyProviderInfo,
    OperatorInfo,
    OptimizerInfo,
    PluginInfo,
    RuntimeInfo,
)
from sdkpack.types import ValueType

__all__ = ["PluginState", "halves_of", "import_quietly", "installed", "kind_of", "label_of", "load_plugin"]

_log = logging.getLogger("sdkpack.host")

_HOOKS: Final[Mapping[str, type[PluginInfo]]] = {
    "sdkpack_operators": OperatorInfo,
    "sdkpack_runtimes": RuntimeInfo,
    "sdkpack_converters": ConverterInfo,
    "sdkpack_optimizers": OptimizerInfo,
    "sdkpack_compressors": CompressorInfo,
    "sdkpack_exporters": ExporterInfo,
    "sdkpack_key_providers": KeyProviderInfo,
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*([.-][a-z0-9_]+)*")
_LOAD: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


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
    mend: str = ""
    """What to do about that; empty where it is used or left out."""
    rows: tuple[PluginInfo, ...] = ()
    left_out: bool = False
    """Not used because the user chose so: nothing to mend."""

    @property
    def loaded(self) -> bool:
        return not self.reason


def import_quietly(module_name: str) -> Any:
    """Imports a plugin's module. stdout carries results alone: one that greets its user would break `--json`."""
    with contextlib.redirect_stdout(sys.stderr):
        return importlib.import_module(module_name)


def installed(group: str) -> Sequence[tuple[str, str, str, str]]:
    """Name, module, distribution and version of every entry point of the group, sorted.

    `importlib.metadata.entry_points` parses the entry points of every distribution, and one malformed file among them
    ends it. Here only those are parsed that mention the group, each on its own.
    """
    found: dict[tuple[str, str, str], str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if group not in text:
                continue
            # The first on the path is the one that imports find.
            name, version = _identity(distribution)
            for point in distribution.entry_points:
                if point.group == group:
                    found.setdefault((point.name, point.value, name), version)
        except Exception as error:
            _log.warning("the entry points of %s cannot be read: %s", _whereabouts(distribution), error)
    return [(point, module, name, version) for (point, module, name), version in sorted(found.items())]


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    # `distribution.name` and `.version` raise or warn, by Python version, where METADATA is broken.
    facts = distribution.metadata
    have = set(facts)
    return (facts["Name"] if "Name" in have else "unnamed distribution"), facts["Version"] if "Version" in have else ""


def _whereabouts(distribution: importlib.metadata.Distribution) -> str:
    return str(distribution.locate_file(""))


def load_plugin(name: str, module_name: str, distribution: str, version: str) -> PluginState:
    """Imports a plugin and asks it for its rows; never raises, ^C aside."""
    api: tuple[int, int] | None = None
    rows: tuple[PluginInfo, ...] = ()
    reason = mend = ""
    try:
        module = import_quietly(module_name)
        api = _api_of(module)
        rows = _ask(module, name)
    except _RefusedError as error:
        reason, mend = str(error), error.mend
    except (Exception, SystemExit) as error:
        # Not ImportError alone: what a plugin's modules raise is up to them, sys.exit() included. ^C passes.
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    if reason:
        _log.debug("plugin %s did not load: %s", name, reason)
    if reason and not mend and distribution:
        # Also where a requirement is missing: pip brings those of what is installed already.
        mend = f"pip install --upgrade {distribution}, or pip uninstall it"
    return PluginState(
        name=name, module=module_name, distribution=distribution, version=version, api=api, reason=reason, mend=mend,
        rows=rows,
    )  # fmt: skip


class _RefusedError(Exception):
    """Why a plugin is not used, in words for its author.

    Args:
        text: the reason.
        mend: what a user can do about it, where that is something else than another version of the plugin.
    """

    def __init__(self, text: str, *, mend: str = "") -> None:
        super().__init__(text)
        self.mend = mend


def _api_of(module: object) -> tuple[int, int]:
    api = getattr(module, "SDKPACK_API", None)
    if not (isinstance(api, tuple) and len(api) == 2 and all(isinstance(part, int) for part in api)):
        raise _RefusedError("does not say which plugin API it is for: SDKPACK_API = (1, 0) is missing")
    if api[0] != API_VERSION[0] or api[1] > API_VERSION[1]:
        have = ".".join(map(str, API_VERSION))
        newer = (api[0], api[1]) > API_VERSION
        raise _RefusedError(
            f"is for plugin API {api[0]}.{api[1]}, this sdkpack has {have}",
            mend="pip install --upgrade sdkpack" if newer else "",
        )
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
        with contextlib.redirect_stdout(sys.stderr):
            result = function()
            if not isinstance(result, Iterable) or isinstance(result, str | bytes):
                raise _RefusedError(f"{hook} returned {_word(result)}, expected a list of {kind.__name__}")
            rows = [_checked(row, kind, hook) for row in result]
    except _RefusedError:
        raise
    except (Exception, SystemExit) as error:
        raise _RefusedError(f"{hook} raised {type(error).__name__}: {error}") from error
    return rows


def _no_name_twice(rows: Iterable[PluginInfo]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        claim = (kind_of(row), label_of(row))
        if claim in seen:
            raise _RefusedError(f"has two rows for {claim[0]} {claim[1]!r}")
        seen.add(claim)


def _unknown_hook(text: str) -> str:
    words = text.split("'")
    if len(words) < 2:
        return text
    near = difflib.get_close_matches(words[1], _HOOKS, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return f"implements {words[1]!r}, which is no hook{meant}"


def _checked(row: Any, kind: type[PluginInfo], hook: str) -> PluginInfo:
    """Refuses a row that would fail later, far from its author."""
    if not isinstance(row, kind):
        raise _RefusedError(f"{hook} returned a list with {_word(row)} in it, expected {kind.__name__}")
    name: object = row.name
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise _RefusedError(f"{hook} returned the name {row.name!r}, expected lower case such as acme.npu2")
    params: object = row.params
    if params is not None and not (isinstance(params, type) and dataclasses.is_dataclass(params)):
        raise _RefusedError(f"{hook} returned {row.name!r} with params {row.params!r}, expected a dataclass or None")
    for half in halves_of(row).values():
        _check_half(row, half, hook)
    for load in _loads(row):
        if not (isinstance(load, str) and _LOAD.fullmatch(load)):
            raise _RefusedError(f"{hook} returned {row.name!r} with load {load!r}, expected 'package.module:Class'")
    if isinstance(row, OperatorInfo):
        _check_operator(row, hook)
    return row


def halves_of(row: PluginInfo) -> Mapping[str, Half]:
    """What does the work of a row, by what it is for: `compiler` and `runner`, else the kind's name."""
    if isinstance(row, RuntimeInfo):
        both = {"compiler": row.compiler, "runner": row.runner}
        return {name: half for name, half in both.items() if half is not None}
    if isinstance(row, ConverterInfo | OptimizerInfo | CompressorInfo):
        return {kind_of(row): row.half}
    return {}


def _check_half(row: PluginInfo, half: object, hook: str) -> None:
    where = f"{hook} returned {row.name!r} with"
    if not isinstance(half, Half):
        raise _RefusedError(f"{where} {_word(half)} for a Half")
    if bool(half.load) == bool(half.command):
        raise _RefusedError(f"{where} {'both load and command' if half.load else 'neither load nor command'}")
    if half.command and half.isolation == "in-process":
        raise _RefusedError(f"{where} a command in-process, expected isolation 'environment' or 'external'")
    if half.load and half.isolation == "external":
        raise _RefusedError(f"{where} load and isolation 'external', expected a command")
    if (half.environment is not None) != (half.isolation == "environment"):
        raise _RefusedError(f"{where} isolation {half.isolation!r}, and environment {_word(half.environment)}")
    if half.environment is not None and not half.environment.smoke_test.strip():
        raise _RefusedError(f"{where} an environment without a smoke test")


def _loads(row: PluginInfo) -> Sequence[object]:
    if halves := halves_of(row):
        return [half.load for half in halves.values() if not half.command]
    return [row.load] if isinstance(row, OperatorInfo | ExporterInfo | KeyProviderInfo) else []


def _check_operator(row: OperatorInfo, hook: str) -> None:
    if type(row.version) is not int or row.version < 1:
        raise _RefusedError(f"{hook} returned {row.name!r} with version {row.version!r}, expected 1, 2, ...")
    for ports in (row.inputs, row.outputs):
        if len({port.name for port in ports}) < len(ports):
            raise _RefusedError(f"{hook} returned {row.name!r} with two ports of one name")
        for port in ports:
            try:
                ValueType.parse(port.type)
            except ValueError as error:
                raise _RefusedError(f"{hook} returned {row.name!r} with a bad port {port.name!r}: {error}") from error


def _word(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def label_of(info: PluginInfo) -> str:
    """What no two plugins may claim: the name, of an operator with its version."""
    return f"{info.name}/{info.version}" if isinstance(info, OperatorInfo) else info.name


def kind_of(info: PluginInfo) -> str:
    """`operator`, `runtime`, `exporter`, `key provider`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(info).__name__.removesuffix("Info")).lower()
