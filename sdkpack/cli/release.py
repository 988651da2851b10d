"""`sdkpack release`: from a bundle to what a customer installs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdkpack.cli.access import bundle_argument, key_options, stated_trust, trust_options
from sdkpack.cli.building import building, store_option
from sdkpack.cli.console import Console, verb_options
from sdkpack.errors import UsageError

if TYPE_CHECKING:
    from sdkpack.documents.recipe import Recipe

__all__ = ["command"]


@click.command("release")
@bundle_argument
@click.option("--recipe", type=click.Path(path_type=Path), default="recipe.toml", show_default=True,
              help="The recipe whose [release.NAME] sections say what to make.")  # fmt: skip
@click.option("--name", "names", multiple=True, help="Which of its releases; all where absent. May be repeated.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=".", show_default=True,
              help="The folder to write into.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace what is there.")
@store_option
@trust_options
@key_options
@verb_options
def command(
    console: Console,
    bundle: Path,
    recipe: Path,
    names: tuple[str, ...],
    output: Path,
    force: bool,
    store: Path | None,
    trust: tuple[str, ...],
    allow_unsigned: bool,
    keys: tuple[str, ...],
) -> None:
    """Make an installable SDK from BUNDLE: what the recipe's [release.NAME] sections describe, for example a wheel.

    The bundle is verified first; the keys that signed it become what the release trusts. A release never holds a key
    that opens it: the customer gives that.
    """
    from sdkpack.build.load import load_recipe
    from sdkpack.build.release import release

    sections = _sections(load_recipe(recipe).recipe, names, recipe)
    stated = stated_trust(trust, allow_unsigned)
    files: list[str] = []
    with building(console, store) as tools:
        for name, settings in sections.items():
            made = release(
                bundle,
                settings=settings,
                name=name,
                out=output,
                trust=stated,
                allow_unsigned=allow_unsigned,
                keys=keys,
                overwrite=force,
                **tools,
            )
            files += [str(path) for path in made.files]
            for note in made.notes:
                console.hint(note)
    console.result("\n".join(f"wrote {file}" for file in files), {"files": files})


def _sections(recipe: Recipe, names: tuple[str, ...], path: Path) -> dict[str, dict[str, object]]:
    have = dict(recipe.release)
    if not have:
        raise UsageError(
            f"{path} describes no release",
            hint='add to it: [release.wheel]\nname = "..."  (sdkpack plugins show wheel)',
        )
    unknown = [name for name in names if name not in have]
    if unknown:
        raise UsageError(f"{path} has no release {unknown[0]!r}, only {', '.join(have)}")
    return {name: dict(settings) for name, settings in have.items() if not names or name in names}
