"""`sdkpack plugins`: what is installed, what it brings, why one is not used."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, table, verb_options
from sdkpack.cli.environments import environments
from sdkpack.cli.plugin_check import check
from sdkpack.cli.plugin_new import new

if TYPE_CHECKING:
    from sdkpack.host.registry import PluginState, Registered, Registry
    from sdkpack.plugin.info import Half

__all__ = ["command"]

_KIND_FACTS = ("reads", "writes", "suffixes", "category", "accepts", "precisions")
"""What some kinds of descriptors say beside parameters and ports."""


@click.group("plugins")
def command() -> None:
    """List the plugins, what they bring, and why one is not used; check one, or begin a new one."""


command.add_command(check)
command.add_command(new)


command.add_command(environments)


@command.command("list")
@verb_options
def list_plugins(console: Console) -> None:
    """Every installed plugin: distribution, version, API, what it brings, where that works, state and reason.

    A plugin that is used is trusted like the program itself: it is imported into this process, and only what the column
    ISOLATION names otherwise works apart. `plugins.allow` and `plugins.block` in config.toml choose which are used, and
    the environment variable SDKPACK_PLUGINS, a comma-separated list of names, in the place of `plugins.allow`.
    """
    from sdkpack.host.deprecated import deprecated_uses
    from sdkpack.host.registry import Registry

    registry = Registry.scan()
    rows = ("PLUGIN", "DISTRIBUTION", "VERSION", "API", "BRINGS", "ISOLATION", "STATE")
    table_rows = [rows, *(_row(state) for state in registry.plugins)]
    old = [f"plugin {state.name} uses {use}" for state in registry.plugins for use in deprecated_uses(state)]
    text = "\n".join([table(table_rows), *(f"conflict: {sentence}" for sentence in registry.conflicts()), *old])
    console.result(
        text, {"plugins": [_facts(state) for state in registry.plugins], "conflicts": list(registry.conflicts())}
    )


@command.command("show")
@click.argument("name")
@verb_options
def show(console: Console, name: str) -> None:
    """One thing that a plugin brings, of any kind: parameters, ports, where it comes from, where it runs."""
    from sdkpack.host.registry import Registry

    registry = Registry.scan()
    found = _find(registry, name)
    from sdkpack.host.params import ParamSchema

    schema = ParamSchema(found.info)
    console.result(_page(found, schema.json_schema()), {"name": name} | _descriptor(found, schema.json_schema()))


def _row(state: PluginState) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for row in state.rows:
        kind = type(row).__name__.removesuffix("Info").lower()
        counts[kind] = counts.get(kind, 0) + 1
    brings = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(counts.items())) or "-"
    api = ".".join(map(str, state.api)) if state.api else "-"
    verdict = _state(state) + (f": {state.reason}" if state.reason else "")
    return state.name, state.distribution or "-", state.version or "-", api, brings, _isolation(state), verdict


def _isolation(state: PluginState) -> str:
    """Where the halves work: `in-process`, `in-process, 2 environment`; what has no halves is in this process."""
    from sdkpack.host.loading import halves_of

    counts: dict[str, int] = {}
    for half in (half for row in state.rows for half in halves_of(row).values()):
        counts[half.isolation] = counts.get(half.isolation, 0) + 1
    if any(not halves_of(row) for row in state.rows):
        counts["in-process"] = counts.get("in-process", 0) + 1
    inside = ["in-process"] if counts.pop("in-process", 0) else []
    return ", ".join([*inside, *(f"{count} {name}" for name, count in sorted(counts.items()))]) or "-"


def _state(state: PluginState) -> str:
    return "used" if state.loaded else "left out" if state.left_out else "broken"


def _facts(state: PluginState) -> dict[str, Any]:
    from sdkpack.host.deprecated import deprecated_uses
    from sdkpack.host.loading import halves_of

    return {
        "name": state.name,
        "module": state.module,
        "distribution": state.distribution,
        "version": state.version,
        "api": list(state.api) if state.api else None,
        "used": state.loaded,
        "state": _state(state),
        "reason": state.reason,
        "mend": state.mend,
        "deprecated": list(deprecated_uses(state)),
        "brings": [
            {
                "kind": type(row).__name__.removesuffix("Info").lower(),
                "name": row.name,
                "isolation": {name: half.isolation for name, half in halves_of(row).items()},
            }
            for row in state.rows
        ],
    }


def _find(registry: Registry, name: str) -> Registered[Any]:
    bare, _, version = name.partition("/")
    for rows, pick in (
        (registry.runtimes(), registry.runtime),
        (registry.converters(), registry.converter),
        (registry.optimizers(), registry.optimizer),
        (registry.compressors(), registry.compressor),
        (registry.exporters(), registry.exporter),
    ):
        if any(row.info.name == bare for row in rows):
            return pick(bare)
    for provider in registry.key_providers():
        if provider.info.name == bare:
            return provider
    return registry.operator(bare, int(version) if version.isdigit() else None)


def _descriptor(found: Registered[Any], schema: dict[str, Any]) -> dict[str, Any]:
    info = found.info
    from sdkpack.host.loading import halves_of

    facts: dict[str, Any] = {
        "kind": type(info).__name__.removesuffix("Info").lower(),
        "summary": info.summary,
        "plugin": found.plugin.name,
        "distribution": f"{found.plugin.distribution} {found.plugin.version}".strip(),
        "params": schema,
    }
    facts |= {name: getattr(info, name) for name in _KIND_FACTS if hasattr(info, name)}
    facts["halves"] = {name: _half(half) for name, half in halves_of(info).items()}
    for ports in ("inputs", "outputs"):
        if hasattr(info, ports):
            facts[ports] = [dataclasses.asdict(port) for port in getattr(info, ports)]
    return facts


def _page(found: Registered[Any], schema: dict[str, Any]) -> str:
    from sdkpack.host.loading import halves_of

    info = found.info
    version = f"/{info.version}" if hasattr(info, "version") else ""
    lines = [f"{info.name}{version}  {info.summary}", f"from {found.plugin.distribution} {found.plugin.version}"]
    lines += [f"{name}: {_listed(getattr(info, name))}" for name in _KIND_FACTS if hasattr(info, name)]
    lines += [f"{name}: {_half_text(half)}" for name, half in halves_of(info).items()]
    for ports in ("inputs", "outputs"):
        rows = [(port.name, port.type, "optional" if port.optional else "") for port in getattr(info, ports, ())]
        lines += ["", f"{ports}:", table(rows, indent="  ")] if rows else []
    fields = schema.get("properties", {})
    rows = [
        (
            name,
            "choice" if "enum" in field else _type_text(field),
            _default_text(field, required=name in schema.get("required", ())),
        )
        for name, field in fields.items()
    ]
    lines += ["", "params:", table(rows, indent="  ")] if rows else []
    for name, field in fields.items():
        if "enum" in field:
            lines += textwrap.wrap(
                f"{name}: {_type_text(field)}",
                100,
                initial_indent="  ",
                subsequent_indent="    ",
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def _listed(value: object) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _half(half: Half) -> dict[str, Any]:
    facts: dict[str, Any] = {"isolation": half.isolation, "load": half.load, "command": list(half.command)}
    if half.environment is not None:
        facts["environment"] = {
            "requirements": list(half.environment.requirements), "python": half.environment.python,
            "size_bytes": half.environment.size_bytes,
        }  # fmt: skip
    return facts


def _half_text(half: Half) -> str:
    if half.environment is None:
        return half.isolation + (f", the program {half.command[0]}" if half.command else "")
    python = f", Python {half.environment.python}" if half.environment.python else ""
    return f"an environment of its own ({', '.join(half.environment.requirements) or 'empty'}{python})"


def _default_text(field: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    return f"default {field['default']!r}" if "default" in field else "optional"


def _type_text(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type_text(option) for option in field["anyOf"])
    return str(field.get("type", field.get("$ref", "any").rpartition("/")[2]))
