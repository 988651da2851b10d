"""`sdkpack plan`: what pack would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdkpack.cli.building import building, recipe_options
from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.build.store import Store
    from sdkpack.documents.plan import Plan, PlanStep

__all__ = ["command", "read_plan", "show_plan"]


@click.command("plan")
@recipe_options
@verb_options
def command(console: Console, recipe: Path, package_paths: tuple[Path, ...], store: Path | None) -> None:
    """Show every step that packing RECIPE would do, and which are done already.

    With --json, the Plan: the recipe with every choice fixed, which pack --plan carries out again. Models are read and
    checked for it, nothing else is done. A step that is not deterministic is pinned to what the store has of it.
    """
    from sdkpack.build.pack import plan

    with building(console, store) as tools:
        show_plan(console, plan(recipe, package_paths=package_paths, **tools), tools["store"])


def _state(step: PlanStep, stored: bool) -> str:
    state = "stored" if stored else "to do"
    if step.deterministic:
        return state
    return f"{state}, pinned to {step.result[:19]}" if step.result else f"{state}, not deterministic"


def show_plan(console: Console, plan: Plan, store: Store) -> None:
    """Prints a plan."""
    from sdkpack.build.pins import stored_results

    rows = [("STEP", "BY", "STATE")]
    stored = stored_results(plan, store)
    rows += [(step.id, step.plugin, _state(step, step.id in stored)) for step in plan.steps]
    inputs = [(size_text(one.size_bytes), one.reference) for one in plan.inputs.values()]
    pipelines = [(name, f"{len(pipeline.steps)} steps, {pipeline.tier}") for name, pipeline in plan.pipelines.items()]
    lines = [
        f"{plan.bundle.name} {plan.bundle.version}",
        table(rows, indent="  "),
        "inputs",
        table(inputs, indent="  "),
    ]
    if pipelines:
        lines += ["pipelines", table(pipelines, indent="  ")]
    console.result("\n".join(lines), {"plan": plan.to_object()})


def read_plan(path: Path) -> Plan:
    """Reads what `sdkpack plan --json` printed.

    Raises:
        FileError: there is no such file.
        DocumentError: it is no plan.
    """
    from sdkpack.documents.base import json_object
    from sdkpack.documents.plan import Plan
    from sdkpack.errors import FileError

    try:
        text = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    value = json_object(text, where=str(path))
    inner = value.get("plan") if isinstance(value, dict) else None
    return Plan.from_object(inner if isinstance(inner, dict) else value, where=str(path))
