"""`sdkpack plugins`: what is installed, what it brings, why one is not used."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, table, verb_options
from sdkpack.cli.plugin_check import check
from sdkpack.cli.plugin_new import new

if TYPE_CHECKING:
    from sdkpack.host.registry import PluginState, Registered, Registry

__all__ = ["command"]


@click.group("plugins")
def command() -> None:
    """List the plugins, what they bring, and why one is not used; check one, or begin a new one."""


command.add_command(check)
command.add_command(new)


@command.command("list")
@verb_options
def list_plugins(console: Console) -> None:
    """Every installed plugin: distribution, version, API, what it brings, state and reason.

    The environment variable SDKPACK_PLUGINS, a comma-separated list of names, limits which ones are used. A plugin
    that is used is trusted like the program itself: it runs in this process.
    """
    from sdkpack.host.registry import Registry

    registry = Registry.scan()
    rows = ("PLUGIN", "DISTRIBUTION", "API", "BRINGS", "STATE")
    table_rows = [rows, *(_row(state) for state in registry.plugins)]
    text = "\n".join([table(table_rows), *(f"conflict: {sentence}" for sentence in registry.conflicts())])
    console.result(
        text, {"plugins": [_facts(state) for state in registry.plugins], "conflicts": list(registry.conflicts())}
    )


@command.command("show")
@click.argument("name")
@verb_options
def show(console: Console, name: str) -> None:
    """One operator, runtime, exporter or key provider: ports, parameters, where it comes from."""
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
    verdict = "used" if state.loaded else f"not used: {state.reason}"
    return state.name, f"{state.distribution} {state.version}".strip(), api, brings, verdict


def _facts(state: PluginState) -> dict[str, Any]:
    return {
        "name": state.name,
        "module": state.module,
        "distribution": state.distribution,
        "version": state.version,
        "api": list(state.api) if state.api else None,
        "used": state.loaded,
        "reason": state.reason,
        "brings": [{"kind": type(row).__name__.removesuffix("Info").lower(), "name": row.name} for row in state.rows],
    }


def _find(registry: Registry, name: str) -> Registered[Any]:
    bare, _, version = name.partition("/")
    if any(row.info.name == bare for row in registry.runtimes()):
        return registry.runtime(bare)
    if any(row.info.name == bare for row in registry.exporters()):
        return registry.exporter(bare)
    for provider in registry.key_providers():
        if provider.info.name == bare:
            return provider
    return registry.operator(bare, int(version) if version.isdigit() else None)


def _descriptor(found: Registered[Any], schema: dict[str, Any]) -> dict[str, Any]:
    info = found.info
    facts: dict[str, Any] = {
        "kind": type(info).__name__.removesuffix("Info").lower(),
        "summary": info.summary,
        "plugin": found.plugin.name,
        "distribution": f"{found.plugin.distribution} {found.plugin.version}".strip(),
        "params": schema,
    }
    for ports in ("inputs", "outputs"):
        if hasattr(info, ports):
            facts[ports] = [dataclasses.asdict(port) for port in getattr(info, ports)]
    return facts


def _page(found: Registered[Any], schema: dict[str, Any]) -> str:
    info = found.info
    version = f"/{info.version}" if hasattr(info, "version") else ""
    lines = [f"{info.name}{version}  {info.summary}", f"from {found.plugin.distribution} {found.plugin.version}"]
    for ports in ("inputs", "outputs"):
        rows = [(port.name, port.type, "optional" if port.optional else "") for port in getattr(info, ports, ())]
        lines += ["", f"{ports}:", table(rows, indent="  ")] if rows else []
    fields = schema.get("properties", {})
    rows = [
        (
            name,
            "choice" if "enum" in field else _type_text(field),
            "required" if "default" not in field else f"default {field['default']!r}",
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


def _type_text(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type_text(option) for option in field["anyOf"])
    return str(field.get("type", field.get("$ref", "any").rpartition("/")[2]))
