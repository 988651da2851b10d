"""Where words go: the result to stdout, everything else to stderr, one JSON document where asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

__all__ = ["Console", "json_text", "size_text", "table", "verb_options"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """One verb's way to speak."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, text: str, facts: Mapping[str, Any]) -> None:
        """The outcome: `text` for people, or with --json `facts` as the one document."""
        if self.json:
            document = {"ok": True} | dict(facts)
            click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str))
        elif text:
            click.echo(text)

    def say(self, text: str) -> None:
        """What is going on, for people who watch."""
        if not self.quiet:
            click.echo(text, err=True)

    def hint(self, text: str) -> None:
        if text and not self.quiet:
            click.echo(f"hint: {text}", err=True)

    @property
    def terminal(self) -> bool:
        """Whether somebody watches: only then does a progress bar move."""
        return not self.quiet and not self.json and sys.stderr.isatty()


def verb_options(function: Callable[..., R]) -> Callable[..., R]:
    """Adds --json, -q and -v, and hands the verb its Console as the first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for success and failure alike.")
    @click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
    @click.option("-v", "--verbose", is_flag=True, help="Log what happens, to stderr.")
    @wraps(function)
    def wrapped(*args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> R:
        if verbose:
            import logging

            logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(name)s: %(message)s")
            logging.getLogger().setLevel(logging.WARNING)
            logging.getLogger("sdkpack").setLevel(logging.DEBUG)
        return function(Console(json=as_json, quiet=quiet, verbose=verbose), *args, **kwargs)

    return wrapped


def size_text(size_bytes: int) -> str:
    """`1.4 MiB`."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def json_text(value: Any, *, indent: str = "") -> str:
    """JSON for people: an object's keys on lines of their own, a list of plain values on one."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {json_text(item, indent=inner)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(f"{inner}{json_text(item, indent=inner)}" for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Columns as wide as their widest cell, two spaces between."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)
