"""The group of verbs. A verb's module is imported when it is called, so that `--help` stays as light as click."""

from __future__ import annotations

import difflib
import importlib
import os
from typing import Any, Final

import click

__all__ = ["VERBS", "app"]

VERBS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "Write a recipe for a model, ready to pack."),
    "convert": ("convert", "Convert one model to ONNX, or from there to another format, and compare the two."),
    "optimize": ("optimize", "Make a model's graph smaller, every pass checked, and undone where it is wrong."),
    "plan": ("plan", "Show every step that pack would do, and which are done already."),
    "pack": ("pack", "Build a bundle from a recipe."),
    "unpack": ("unpack", "Write the files of a verified bundle into a folder."),
    "verify": ("verify", "Prove that a bundle is whole, signed by whom you trust, and still computes the same."),
    "inspect": ("inspect", "Show what a bundle says of itself; needs no key."),
    "run": ("run", "Run a pipeline or model of a bundle or recipe."),
    "release": ("release", "Make an installable SDK from a bundle."),
    "sign": ("sign", "Add a signature, also in split steps for keys that are elsewhere."),
    "rewrap": ("rewrap", "Change who can open a bundle, without touching the models."),
    "keys": ("keys", "Make and show keys."),
    "store": ("store", "Look at and clean the store of finished steps."),
    "plugins": ("plugins", "List the plugins, what they bring, and why one is not used."),
    "doctor": ("doctor", "Check this installation and say what to mend."),
}
"""Verb -> module under sdkpack.cli, and its line in the help."""


class LazyGroup(click.Group):
    """A group that knows its verbs by name only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"sdkpack.cli.{VERBS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name not in VERBS and not name.startswith("-"):
            near = difflib.get_close_matches(name, VERBS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see: sdkpack --help"
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import importlib.metadata

        click.echo(f"sdkpack {importlib.metadata.version('sdkpack')}")
        ctx.exit()


def _change_folder(_: click.Context, __: click.Parameter, folder: str | None) -> None:
    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise click.UsageError(f"-C {folder}: {str(error.strerror).lower()}") from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-V", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
              help="Show the version and exit.")  # fmt: skip
@click.option("-C", "folder", metavar="DIR", expose_value=False, is_eager=True, callback=_change_folder,
              help="Work in DIR instead of the current folder.")  # fmt: skip
def app() -> None:
    """Pack trained models, their pre/post-processing and the proof that they still compute the same into one signed,
    encrypted file, and wrap that file into an SDK.

    \b
    Start:   sdkpack init MODEL.onnx && sdkpack pack
    Then:    sdkpack verify NAME-VERSION.sdkpack --allow-unsigned
    """
