"""`sdkpack plugins env`: the environments of toolchains that run apart."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.host.environments import Environment, Environments
    from sdkpack.host.registry import Registered
    from sdkpack.plugin.info import EnvironmentSpec

__all__ = ["environments"]


@click.group("env")
def environments() -> None:
    """List, build, check and remove the environments of toolchains that run apart."""


@environments.command("list")
@verb_options
def list_environments(console: Console) -> None:
    """Every environment: for which plugins, its Python, its size; and those that are still to be built."""
    there = _there()
    wanted = _wanted()
    users: dict[str, list[str]] = {}
    missing = []
    for row, spec in wanted:
        found = there.find(spec)
        if found is None:
            missing.append(row.info.name)
        else:
            users.setdefault(found.name, []).append(row.info.name)
    facts = [_facts(one, users.get(one.name, [])) for one in there.all()]
    rows = [("ENVIRONMENT", "PYTHON", "SIZE", "USED BY")]
    rows += [
        (fact["name"], fact["python"], size_text(fact["size_bytes"]), ", ".join(fact["used_by"]) or "no plugin here")
        for fact in facts
    ]
    lines = [table(rows) if facts else "there is no environment yet"]
    lines += [f"not built yet: {', '.join(sorted(set(missing)))}"] if missing else []
    result = {"root": str(there.root), "environments": facts, "not_built": sorted(set(missing))}
    console.result("\n".join(lines), result)


@environments.command("build")
@click.argument("plugins", nargs=-1)
@verb_options
def build(console: Console, plugins: tuple[str, ...]) -> None:
    """Build what PLUGINS need, or all that any installed plugin needs; what is there already is left alone."""
    there = _there()
    made = [
        _facts(there.ensure(spec, plugin=row.info.name, tell=console.say), [row.info.name])
        for row, spec in _of(plugins)
    ]
    text = "\n".join(f"{fact['name']}  {size_text(fact['size_bytes'])}  {', '.join(fact['used_by'])}" for fact in made)
    console.result(text or "no plugin needs an environment", {"environments": made})


@environments.command("check")
@click.argument("plugins", nargs=-1)
@verb_options
def check(console: Console, plugins: tuple[str, ...]) -> None:
    """Run the smoke tests again, and tell what this kernel enforces around a job.

    Exits with 5 where an environment is not what it was built as.
    """
    there = _there()
    findings = []
    for row, spec in _of(plugins):
        found = there.find(spec)
        wrong = "not built yet" if found is None else there.check(found, spec)
        findings.append({"plugin": row.info.name, "environment": found.name if found else "", "problem": wrong})
    enforced = there.enforced()
    rows = [(finding["plugin"], finding["environment"] or "-", finding["problem"] or "ok") for finding in findings]
    measures = [(f"  {name}", text) for name, text in enforced.items()]
    text = "\n".join([*([table(rows)] if rows else []), "around a job:", table(measures)])
    console.result(text, {"environments": findings, "enforced": enforced})
    if any(finding["environment"] and finding["problem"] for finding in findings):
        raise click.exceptions.Exit(5)


@environments.command("remove")
@click.argument("names", nargs=-1)
@click.option("--unused", is_flag=True, help="Remove all that no installed plugin needs.")
@verb_options
def remove(console: Console, names: tuple[str, ...], unused: bool) -> None:
    """Remove environments by NAMES, as `list` shows them."""
    from sdkpack.errors import UsageError

    if not names and not unused:
        raise UsageError("no environment was named", hint="see: sdkpack plugins env list; or give --unused")
    there = _there()
    chosen = list(names)
    if unused:
        used = {found.name for _, spec in _wanted() if (found := there.find(spec)) is not None}
        chosen += [one.name for one in there.all() if one.name not in used]
    freed = {name: there.remove(name) for name in dict.fromkeys(chosen)}
    text = "\n".join(f"removed {name}: {size_text(size)}" for name, size in freed.items()) or "nothing to remove"
    console.result(text, {"removed": freed})


def _there() -> Environments:
    from sdkpack.host.environments import Environments, default_environments

    return Environments(default_environments(os.environ), dict(os.environ))


def _wanted() -> list[tuple[Registered[Any], EnvironmentSpec]]:
    """Every descriptor with an environment of its own, and what it asks for."""
    from sdkpack.host.loading import halves_of
    from sdkpack.host.registry import Registry

    rows = [*Registry.scan().tools()]
    return [(row, half.environment) for row in rows for half in halves_of(row.info).values() if half.environment]


def _of(plugins: tuple[str, ...]) -> list[tuple[Registered[Any], EnvironmentSpec]]:
    from sdkpack.errors import PluginMissingError

    wanted = _wanted()
    have = {row.info.name for row, _ in wanted}
    for name in plugins:
        if name not in have:
            raise PluginMissingError(
                f"no plugin {name!r} has an environment of its own",
                hint=f"those that do: {', '.join(sorted(have)) or 'none'}",
            )
    return [(row, spec) for row, spec in wanted if not plugins or row.info.name in plugins]


def _facts(environment: Environment, users: list[str]) -> dict[str, Any]:
    return {
        "name": environment.name,
        "python": ".".join(map(str, environment.python_version)),
        "size_bytes": environment.size_bytes,
        "requirements": list(environment.requirements),
        "distributions": dict(environment.distributions),
        "used_by": sorted(set(users)),
    }
