"""`sdkpack plan`: what pack would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdkpack.cli.building import building, recipe_options
from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.build.store import Store
    from sdkpack.documents.plan import Plan

__all__ = ["command", "show_plan"]


@click.command("plan")
@recipe_options
@verb_options
def command(console: Console, recipe: Path, package_paths: tuple[Path, ...], store: Path | None) -> None:
    """Show every step that packing RECIPE would do, and which are done already.

    With --json, the Plan: the recipe with every choice fixed. Models are read and checked for it, nothing else is done.
    """
    from sdkpack.build.pack import plan

    with building(console, store) as tools:
        show_plan(console, plan(recipe, package_paths=package_paths, **tools), tools["store"])


def show_plan(console: Console, plan: Plan, store: Store) -> None:
    """Prints a plan."""
    rows = [("STEP", "BY", "STATE")]
    rows += [(step.id, step.plugin, "stored" if store.known(step.key) else "to do") for step in plan.steps]
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
