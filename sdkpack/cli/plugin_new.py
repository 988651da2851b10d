"""`sdkpack plugins new`: a plugin's distribution to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from sdkpack.cli.console import Console, verb_options

__all__ = ["new"]

_KINDS = ("runtime", "operator", "converter", "optimizer", "compressor", "exporter", "key-provider")
_WITH_TESTS = ("converter", "key-provider")
"""Kinds whose tests need more than a name."""


@click.command("new")
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("--name", required=True, help="What it is called in recipes: VENDOR.NAME, such as acme.npu2.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False),
              help="The folder to write; by default one named after the plugin.")  # fmt: skip
@verb_options
def new(console: Console, kind: str, name: str, out: Path | None) -> None:
    """Write a plugin that already passes its conformance tests, with something pretended, and says what to fill in."""
    from sdkpack.testing.scaffold import write_scaffold

    folder = out or Path(name.replace(".", "-").replace("_", "-"))
    files = write_scaffold(kind, name, folder)
    console.result(
        "\n".join(str(path) for path in files), {"folder": str(folder), "files": [str(path) for path in files]}
    )
    tests = f" --tests {folder}/tests" if kind in _WITH_TESTS else ""
    console.hint(f"read {folder}/README.md, then: pip install -e {folder} && sdkpack plugins check {name}{tests}")
