"""`sdkpack store`: the folder of finished steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from sdkpack.cli.building import store_option
from sdkpack.cli.console import Console, size_text, verb_options
from sdkpack.errors import UsageError

__all__ = ["command"]

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.group("store")
def command() -> None:
    """Look at and clean the store of finished steps.

    It holds models in plain form, in a folder that only you can read, and can be removed at any time: what is missing
    is made again.
    """


@command.command("size")
@store_option
@verb_options
def size(console: Console, store: Path | None) -> None:
    """How much the store holds, and where it is."""
    from sdkpack.build.store import Store

    with Store(store) as opened:
        found = opened.size()
        root = opened.root
    console.result(
        f"{root}: {size_text(found.size_bytes)}, {found.objects} objects, {found.results} results",
        {"store": str(root), "size_bytes": found.size_bytes, "objects": found.objects, "results": found.results},
    )


@command.command("clean")
@click.option("--older-than", metavar="AGE", help="Only what was not used for this long: 30d, 12h, 90m.")
@store_option
@verb_options
def clean(console: Console, older_than: str | None, store: Path | None) -> None:
    """Remove finished steps, all or those not used for a while."""
    from sdkpack.build.store import Store

    with Store(store) as opened:
        freed = opened.clean(older_than_s=None if older_than is None else _seconds(older_than))
    console.result(f"freed {size_text(freed)}", {"freed_bytes": freed})


@command.command("verify")
@store_option
@verb_options
def verify(console: Console, store: Path | None) -> None:
    """Read everything again and remove what is damaged; it is made anew by the next pack."""
    from sdkpack.build.store import Store

    with Store(store) as opened:
        damaged = opened.verify()
    text = f"removed {len(damaged)} damaged objects" if damaged else "everything is as it was written"
    console.result(text, {"damaged": list(damaged)})


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+)([mhdw])", age)
    if match is None:
        raise UsageError(f"--older-than {age!r} is no age, expected a number and m, h, d or w, as in 30d")
    return float(int(match[1]) * _SECONDS[match[2]])
