"""`sdkpack plugins env`: the environments of toolchains that run apart."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, size_text, table, verb_options
from sdkpack.errors import PluginError

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
    missing: dict[str, int] = {}
    for row, spec in wanted:
        found = there.find(spec)
        if found is None:
            missing[row.info.name] = max(missing.get(row.info.name, 0), spec.size_bytes)
        else:
            users.setdefault(found.name, []).append(row.info.name)
    facts = [_facts(one, users.get(one.name, [])) for one in there.all()]
    rows = [("ENVIRONMENT", "PYTHON", "SIZE", "USED BY")]
    rows += [
        (fact["name"], fact["python"], size_text(fact["size_bytes"]), ", ".join(fact["used_by"]) or "no plugin here")
        for fact in facts
    ]
    lines = [table(rows) if facts else "there is no environment yet"]
    if len(facts) > 1:
        lines.append(f"together {size_text(sum(fact['size_bytes'] for fact in facts))} in {there.root}")
    names = [f"{name} (about {size_text(size)})" if size else name for name, size in sorted(missing.items())]
    lines += [f"not built yet: {', '.join(names)}"] if names else []
    result = {"root": str(there.root), "environments": facts, "not_built": sorted(missing)}
    console.result("\n".join(lines), result)


@environments.command("build")
@click.argument("plugins", nargs=-1)
@verb_options
def build(console: Console, plugins: tuple[str, ...]) -> None:
    """Build what PLUGINS need, or all that any installed plugin needs; what is there already is left alone.

    One that cannot be built does not keep the others from it; the exit code is 5 then.
    """
    there = _there()
    made: dict[str, dict[str, Any]] = {}
    failed: list[dict[str, str]] = []
    for row, spec in _of(plugins):
        try:
            found = _built(console, there, row.info.name, spec)
        except PluginError as error:
            failed.append({"plugin": row.info.name, "code": error.code, "message": error.message, "hint": error.hint})
            continue
        users = [*made.get(found.name, {"used_by": []})["used_by"], row.info.name]
        made[found.name] = _facts(found, users)
    rows = [(fact["name"], size_text(fact["size_bytes"]), ", ".join(fact["used_by"])) for fact in made.values()]
    text = table(rows) if rows else "" if failed else "no plugin needs an environment"
    console.result(text, {"ok": not failed, "environments": list(made.values()), "failed": failed})
    for one in failed:
        console.say(f"error {one['code']}: {one['plugin']}: {one['message']}")
        console.hint(one["hint"])
    if failed:
        raise click.exceptions.Exit(5)


def _built(console: Console, there: Environments, plugin: str, spec: EnvironmentSpec) -> Environment:
    if not console.terminal:
        return there.ensure(spec, plugin=plugin, tell=console.say)
    from sdkpack.cli.progress import TerminalReporter

    with TerminalReporter(sys.stderr) as reporter:
        begin = time.monotonic()
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            reporter.warned(text)

        found = there.ensure(
            spec, plugin=plugin, tell=tell, progress=lambda text: reporter.progressed(plugin, None, text)
        )
        if told:
            reporter.finished(plugin, time.monotonic() - begin)
        return found


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
    measures = [(f"  {name}", _measure_text(name, text)) for name, text in enforced.items()]
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


def _measure_text(name: str, text: str) -> str:
    """Numbers with their units."""
    if not text.isdigit():
        return text
    units = {"memory": " of address space", "file size": " each, and all together", "processor time": " s"}
    shown = size_text(int(text)) if name in ("memory", "file size") else text
    return shown + units.get(name, "")


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
