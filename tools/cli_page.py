"""Writes docs/cli.md from the commands' own help: `python tools/cli_page.py > docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from sdkpack.cli.app import app

HEAD = """\
# The command line

Every verb's help, as `sdkpack VERB --help` prints it. Written by `python tools/cli_page.py`.

The result goes to stdout; progress, hints and errors go to stderr. `--json` prints one document, for success and for
failure. Progress moves on a terminal only. `^C` leaves nothing behind. Secrets are never arguments: keys are given by
file, by `env:NAME`, or by a key provider's reference.

| exit code | what it means |
| --- | --- |
| 0 | done |
| 1 | a stated failure |
| 2 | wrong usage, or a document that is not valid |
| 3 | a bug in sdkpack or a plugin; a log is written and its path printed |
| 4 | verification failed |
| 5 | a plugin or toolchain is missing or broken |
| 6 | a quality gate is not met |
| 130 | interrupted |

Shell completion: `eval "$(_SDKPACK_COMPLETE=bash_source sdkpack)"`, likewise `zsh_source` and `fish_source`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, context in _commands(_context(app, "sdkpack", None)):
        parts.append(f"## {path}\n\n```text\n{context.command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def _commands(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield context.command_path, context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(_context(inner, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        max_content_width=100,
        terminal_width=100,
        help_option_names=["-h", "--help"],
    )


if __name__ == "__main__":
    sys.stdout.write(page())
