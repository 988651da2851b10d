"""What pack, plan and run of a recipe share: its options, the store, ^C."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sdkpack.cli.console import Console

__all__ = ["building", "recipe_options"]

R = TypeVar("R")


def recipe_options(function: Callable[..., R]) -> Callable[..., R]:
    """RECIPE, --package-path and --store."""
    function = store_option(function)
    function = click.option(
        "--package-path", "package_paths", multiple=True, type=click.Path(path_type=Path, file_okay=False),
        help="Where package://NAME/FILE is looked for first: a folder made by pip install --target. May be repeated.",
    )(function)  # fmt: skip
    return click.argument("recipe", default="recipe.toml", type=click.Path(path_type=Path))(function)


def store_option(function: Callable[..., R]) -> Callable[..., R]:
    return click.option(
        "--store", type=click.Path(path_type=Path, file_okay=False), envvar="SDKPACK_STORE",
        help="The folder of finished steps; in the user's cache where absent.",
    )(function)  # fmt: skip


@contextmanager
def building(console: Console, store: Path | None) -> Iterator[dict[str, Any]]:
    """The arguments that every build takes: registry, store, reporter, cancel; on ^C everything is put away."""
    from sdkpack.build.store import Store
    from sdkpack.cli.progress import TerminalReporter
    from sdkpack.errors import InterruptedRunError
    from sdkpack.host.registry import Registry

    cancel = threading.Event()
    with ExitStack() as stack:
        tools: dict[str, Any] = {
            "registry": Registry.scan(),
            "store": stack.enter_context(Store(store)),
            "reporter": stack.enter_context(TerminalReporter(sys.stderr)) if console.terminal else None,
            "cancel": cancel,
        }
        try:
            yield tools
        except KeyboardInterrupt:
            cancel.set()
            raise InterruptedRunError("interrupted; nothing was left behind") from None
