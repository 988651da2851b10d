"""`sdkpack pack`: from a recipe to a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sdkpack.cli.building import building, recipe_options
from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.build.pack import PackResult

__all__ = ["command"]


@click.command("pack")
@recipe_options
@click.option("-o", "--output", type=click.Path(path_type=Path, allow_dash=True),
              help="A file or folder, or - for standard output; NAME-VERSION.sdkpack where absent.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--plan", "locked", type=click.Path(path_type=Path, dir_okay=False),
              help="Carry out this plan (of plan --json) again; refuse what differs from it.")  # fmt: skip
@click.option("--twice", is_flag=True, help="Run what plugins do twice; refuse one that gives other bytes unannounced.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan, but write no bundle.")
@verb_options
def command(
    console: Console,
    recipe: Path,
    package_paths: tuple[Path, ...],
    store: Path | None,
    output: Path | None,
    force: bool,
    locked: Path | None,
    twice: bool,
    dry_run: bool,
) -> None:
    """Build a bundle from RECIPE (recipe.toml where absent).

    Finished steps are kept in a store, so that a second pack does only what changed. What cannot be the same from run
    to run (times, this machine) goes into NAME-VERSION.report.json beside the bundle.
    """
    from sdkpack.build.pack import pack, plan
    from sdkpack.cli.plan import read_plan

    with building(console, store) as tools:
        options: dict[str, Any] = {"package_paths": package_paths, **tools}
        if dry_run:
            from sdkpack.cli.plan import show_plan

            made = plan(recipe, **options)
            show_plan(console, made, tools["store"])
            return
        to_stdout = output is not None and str(output) == "-"
        target: Path | BinaryIO | None = sys.stdout.buffer if to_stdout else output
        wanted = read_plan(locked) if locked is not None else None
        result = pack(recipe, out=target, overwrite=force, locked=wanted, twice=twice, **options)
    if to_stdout:
        console.say(f"wrote {size_text(result.size_bytes)}, identity {result.identity}")
        return
    console.result(_page(result), _facts(result))
    console.hint(_next(result))


def _facts(result: PackResult) -> dict[str, Any]:
    return {
        "bundle": str(result.path),
        "report": str(result.report_path) if result.report_path else None,
        "identity": result.identity,
        "size_bytes": result.size_bytes,
        "encrypted": result.plan.encrypt is not None,
        "signed": result.plan.sign is not None,
        "steps": {"run": result.ran, "stored": result.cached},
    }


def _page(result: PackResult) -> str:
    evidence = [
        f"{name} on {variant.target}: {found.check} {'proven' if found.passed else 'not proven'}"
        for name, model in result.manifest.models.items()
        for variant in model.variants
        for found in variant.evidence
    ]
    rows = [
        ("size", size_text(result.size_bytes)),
        ("encrypted", "yes" if result.plan.encrypt else "no"),
        ("signed", "yes" if result.plan.sign else "no"),
        ("identity", result.identity),
        ("steps", f"{result.ran} run, {result.cached} from the store"),
        *(("evidence", line) for line in evidence),
    ]
    return "\n".join([f"packed {result.path}", table(rows, indent="  ")])


def _next(result: PackResult) -> str:
    trust = "--trust PUBLISHER.pub" if result.plan.sign else "--allow-unsigned"
    key = " --key CUSTOMER.key" if result.plan.encrypt else ""
    return f"sdkpack verify {result.path} {trust}{key}"
