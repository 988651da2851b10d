"""Which optimizers run, and in which order."""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.documents.recipe import OptimizeSection
from sdkpack.errors import PluginBrokenError, PluginError, UsageError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.info import OptimizerInfo
from sdkpack.plugin.optimizer import Optimizer

__all__ = ["LEVELS", "Pass", "choose_passes"]

LEVELS: Final = ("none", "safe", "standard", "max")
_LARGE: Final = "large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """An optimizer, ready to work."""

    row: Registered[OptimizerInfo]
    optimizer: Optimizer
    params: Any
    fingerprint: str
    """Empty where the tool has none."""

    @property
    def name(self) -> str:
        return self.row.info.name

    @property
    def takes_large(self) -> bool:
        return _LARGE in self.row.info.capabilities


def choose_passes(section: OptimizeSection, registry: Registry, tools: ToolHost, *, path: str) -> tuple[Pass, ...]:
    """The passes that a recipe's section asks for, in the order in which they run.

    Args:
        section: level, passes on or off, their settings.
        registry: the plugins in use.
        tools: where toolchains run.
        path: of the section in the recipe, for messages.

    Raises:
        UsageError: it names a pass that is not there.
        PluginError: no optimizer is installed, or a named one cannot work here.
        DocumentError: a pass refuses its settings.
    """
    rows = {row.info.name: row for row in registry.optimizers()}
    named = {**section.passes, **dict.fromkeys(section.settings, True)}
    unknown = sorted(set(named) - set(rows))
    if unknown:
        near = difflib.get_close_matches(unknown[0], rows, n=1)
        raise UsageError(
            f"{path}: there is no pass {unknown[0]!r}",
            hint=f"did you mean {near[0]!r}?" if near else "see: sdkpack plugins list",
        )
    wanted = [row for name, row in rows.items() if _is_on(row.info, section, section.passes.get(name))]
    if not wanted and section.level != "none" and not section.passes:
        raise PluginError("no optimizer is installed", hint="pip install sdkpack-optimize, or level = 'none'")
    return tuple(_opened(row, section, tools, path) for row in _ordered(wanted))


def _is_on(info: OptimizerInfo, section: OptimizeSection, said: bool | None) -> bool:
    if said is not None:
        return said
    if info.name in section.settings:
        return True
    return info.level in LEVELS[1 : LEVELS.index(section.level) + 1]


def _ordered(rows: Sequence[Registered[OptimizerInfo]]) -> list[Registered[OptimizerInfo]]:
    """By `after`; what that leaves open, by name."""
    by_name = {row.info.name: row for row in rows}
    graph = {name: [before for before in by_name[name].info.after if before in by_name] for name in sorted(by_name)}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle = " after ".join(map(repr, error.args[1]))
        raise PluginBrokenError(f"the passes {cycle} wait for each other", hint="tell the plugin's author") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return [by_name[name] for name in order]


def _opened(row: Registered[OptimizerInfo], section: OptimizeSection, tools: ToolHost, path: str) -> Pass:
    settings: Mapping[str, Any] = section.settings.get(row.info.name, {})
    params = ParamSchema(row.info).instance(settings, path=f"{path}.with.{row.info.name}")
    optimizer: Optimizer = tools.open(row, row.info.half)
    probe = optimizer.probe()
    if not probe.ok:
        raise PluginError(
            f"optimizer {row.info.name!r} cannot work here: {probe.missing or 'no reason given'}", hint=probe.mend
        )
    return Pass(row=row, optimizer=optimizer, params=params, fingerprint=probe.fingerprint)
