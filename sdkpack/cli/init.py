"""`sdkpack init`: a recipe that packs as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sdkpack.cli.console import Console, verb_options

if TYPE_CHECKING:
    from sdkpack.types import TensorSpec

__all__ = ["command"]

_TEMPLATE: Final = """\
# What goes into the bundle, and how. Pack it: sdkpack pack{pack_argument}
recipe = 1
bundle = {{ name = {name}, version = "0.1.0", sequence = 1 }}

[models]
{model}.source = {source}
{signature}
{sample}
[targets.{target}]                    # each model gets one variant per target
runtime = {runtime}

# Steps before and after the model, so that customers hand over an image, not a tensor (sdkpack plugins list):
# [pipelines.main]
# inputs.image = "image/encoded"
# steps = [
#   {{ op = "image.decode" }},
#   {{ op = "image.resize", with = {{ width_px = 224, height_px = 224 }} }},
#   {{ op = "image.to_tensor", with = {{ scale = "1/255" }} }},
#   {{ model = "{model}" }},
# ]

# Only who holds a key can open it (sdkpack keys new recipient customer):
# [encrypt]
# recipients = ["customer.pub"]

# Everybody can see who made it (sdkpack keys new signing publisher):
# [sign]
# key = "publisher.key"
"""


@click.command("init")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The recipe; recipe.toml beside the model.")
@click.option("--name", help="The bundle's name; made from the file's where absent.")
@click.option("-f", "--force", is_flag=True, help="Replace a recipe that is there.")
@verb_options
def command(console: Console, model: Path, output: Path | None, name: str | None, force: bool) -> None:
    """Write a recipe for MODEL (an ONNX file) that packs as it is, with the next steps as comments."""
    from sdkpack.errors import UsageError
    from sdkpack.model.facts import describe
    from sdkpack.model.load import load_model

    facts = describe(load_model(model))
    recipe = output or _beside(model)
    try:
        source = model.resolve().relative_to(recipe.resolve().parent)
    except ValueError:
        raise UsageError(
            f"a recipe refers to files in its own folder, and {model} is not in {recipe.resolve().parent}",
            hint="leave -o away to put the recipe beside the model",
        ) from None
    runtime = _runtime()
    text = _recipe(source, name or _bundle_name(model), runtime, facts.inputs, facts.outputs, recipe)
    _write(recipe, text, force=force)
    console.result(f"wrote {recipe}", {"recipe": str(recipe), "model": str(source), "runtime": runtime})
    console.hint(f"sdkpack pack{_pack_argument(recipe)}")


def _beside(model: Path) -> Path:
    here = Path.cwd()
    inside = model.resolve().is_relative_to(here)
    return Path("recipe.toml") if inside else model.parent / "recipe.toml"


def _bundle_name(model: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", model.stem.lower()).strip("-")
    return (name or "model")[:64].strip("-")


def _pack_argument(recipe: Path) -> str:
    return "" if recipe == Path("recipe.toml") else f" {recipe}"


def _runtime() -> str:
    """The first installed runtime that compiles ONNX."""
    from sdkpack.errors import PluginMissingError
    from sdkpack.host.registry import Registry

    fitting = [row for row in Registry.scan().runtimes() if row.info.compiler and _takes_onnx(row.info.accepts)]
    if not fitting:
        raise PluginMissingError(
            "no installed plugin prepares ONNX models", hint="pip install 'sdkpack[default]', or see: sdkpack doctor"
        )
    return fitting[0].info.name


def _takes_onnx(accepts: tuple[str, ...]) -> bool:
    return any(media_type.startswith("application/vnd.onnx") for media_type in accepts)


def _recipe(
    source: Path,
    name: str,
    runtime: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    recipe: Path,
) -> str:
    return _TEMPLATE.format(
        name=_toml(name),
        model="net",
        source=_toml(source.as_posix()),
        signature="\n".join([*(f"# in   {spec}" for spec in inputs), *(f"# out  {spec}" for spec in outputs)]),
        sample=_sample(inputs),
        target="cpu",
        runtime=_toml(runtime),
        pack_argument=_pack_argument(recipe),
    )


def _sample(inputs: tuple[TensorSpec, ...]) -> str:
    """Where sizes are open, the line that fixes them for recorded runs, ready to be switched on."""
    if all(isinstance(size, int) for spec in inputs for size in spec.shape):
        return ""
    shapes = ", ".join(
        f"{_key(spec.name)} = [{', '.join(str(size) if isinstance(size, int) else '1' for size in spec.shape)}]"
        for spec in inputs
    )
    return f"# sizes that are open, for the recorded run:\n# net.sample = {{ {shapes} }}\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(recipe: Path, text: str, *, force: bool) -> None:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.errors import OutputError

    if recipe.exists() and not force:
        raise OutputError(f"{recipe} is there already", hint="replace it with --force, or name another with -o")
    with atomic_file(recipe, overwrite=force) as file:
        file.write(text.encode())
