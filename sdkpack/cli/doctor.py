"""`sdkpack doctor`: checks an installation; works with every plugin broken."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.host.registry import Registered
    from sdkpack.plugin.info import Half

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    told: str
    mend: str = ""


@click.command("doctor")
@verb_options
def command(console: Console) -> None:
    """Check this installation and say what to mend.

    Exits with 5 where something that is installed cannot be used.
    """
    findings = [_python(), *_packages(), _store(), *_plugins()]
    marks = [("ok  " if finding.ok else "MEND", finding.what, finding.told) for finding in findings]
    mends = [f"  {finding.what}: {finding.mend}" for finding in findings if not finding.ok and finding.mend]
    text = "\n".join([table(marks), *(["", "to mend:", *mends] if mends else [])])
    console.result(
        text,
        {
            "healthy": not mends,
            "findings": [{"what": one.what, "ok": one.ok, "told": one.told, "mend": one.mend} for one in findings],
        },
    )
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(5)


def _python() -> Finding:
    told = f"{platform.python_version()} on {sys.platform}/{platform.machine()}"
    return Finding(what="python", ok=sys.version_info >= (3, 11), told=told, mend="use Python 3.11 or later")


def _packages() -> list[Finding]:
    import importlib.metadata

    found = []
    for name in ("click", "cryptography", "msgpack", "numpy", "onnx", "pluggy", "pydantic"):
        try:
            found.append(Finding(what=name, ok=True, told=importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(what=name, ok=False, told="not installed", mend=f"pip install {name}"))
    return found


def _store() -> Finding:
    from sdkpack.build.store import default_root

    root = default_root(os.environ)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            what="store", ok=False, told=f"{root} cannot be written", mend="name another folder in SDKPACK_STORE"
        )
    free = shutil.disk_usage(existing).free
    return Finding(what="store", ok=True, told=f"{_home_relative(root)}, {size_text(free)} free")


def _home_relative(path: Path) -> str:
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except ValueError:
        return str(path)


def _plugins() -> list[Finding]:
    from sdkpack.errors import SdkpackError
    from sdkpack.host.loading import halves_of
    from sdkpack.host.registry import Registry

    try:
        registry = Registry.scan()
    except SdkpackError as error:
        # Which plugins may be imported is not known then, so none is.
        told = "; ".join([error.message, *(f"{problem.path}: {problem.message}" for problem in error.problems)])
        return [Finding(what="config", ok=False, told=told, mend=error.hint or f"edit {error.where}")]
    found = [_plugin(state) for state in registry.plugins]
    found += [
        Finding(
            what="conflict",
            ok=False,
            told=sentence,
            mend="uninstall one of them, or block it: plugins.block in config.toml",
        )
        for sentence in registry.conflicts()
    ]
    for row in registry.tools():
        found += [finding for name, half in halves_of(row.info).items() if (finding := _half(row, name, half))]
    return found


def _plugin(state: object) -> Finding:
    from sdkpack.host.deprecated import deprecated_uses
    from sdkpack.host.registry import PluginState

    assert isinstance(state, PluginState)
    label = f"plugin {state.name}"
    if state.loaded:
        # What uses deprecated names works, and goes on working within this major: told, and nothing to mend today.
        told = [f"{state.distribution} {state.version}, {len(state.rows)} rows", *deprecated_uses(state)]
        return Finding(what=label, ok=True, told="; uses ".join(told))
    return Finding(what=label, ok=state.left_out, told=f"not used: {state.reason}", mend=state.mend)


def _half(row: Registered[Any], name: str, half: Half) -> Finding | None:
    """What says of itself whether it can work. Runners do so when a bundle is opened; of one that works apart it is
    told whether its environment is there."""
    from sdkpack.errors import PluginError, RunError
    from sdkpack.host.registry import load_class
    from sdkpack.host.tools import ToolHost

    label = f"{name} {row.info.name}" if name != "compiler" else f"runtime {row.info.name}"
    if name == "runner" and half.isolation == "in-process":
        return None
    tools = ToolHost(environ=dict(os.environ))
    if half.environment is not None and tools.environments.find(half.environment) is None:
        # A look around builds nothing; what is not built yet is nothing to mend.
        when = f"by sdkpack plugins env build {row.info.name}" if name == "runner" else "at the first use"
        told = f"its environment is built {when}: {', '.join(half.environment.requirements) or 'empty'}"
        return Finding(what=label, ok=True, told=told)
    try:
        if name == "runner":
            devices = tools.runner(row, half).devices()
            return Finding(what=label, ok=True, told=f"runs apart on {', '.join(one.name for one in devices)}")
        tool = load_class(row, half.load)() if half.isolation == "in-process" else tools.open(row, half)
        probe = tool.probe()
    except (PluginError, RunError) as error:
        return Finding(what=label, ok=False, told=error.message, mend=error.hint)
    told = probe.fingerprint if probe.ok else f"missing: {probe.missing}"
    return Finding(what=label, ok=probe.ok, told=told, mend=probe.mend)
