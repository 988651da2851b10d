"""`sdkpack run`: a pipeline or model of a bundle, or of a recipe that is being written."""

from __future__ import annotations

import difflib
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.access import key_options, stated_trust, trust_options
from sdkpack.cli.building import building, store_option
from sdkpack.cli.console import Console, json_text, verb_options
from sdkpack.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sdkpack.session.session import Session
    from sdkpack.types import ValueType

__all__ = ["command"]


@click.command("run")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, metavar="[NAME=]FILE...")
@click.option("-p", "--pipeline", "name", help="The pipeline or model; needed where there are several pipelines.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A run-time parameter. May be repeated.")
@click.option("--until", metavar="VALUE", help="Stop after the step that gives this value, and print it.")
@click.option("--dump", type=click.Path(path_type=Path, file_okay=False), help="Write every intermediate value there.")
@click.option("--target", "targets", multiple=True, help="Use this target only. May be repeated.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that all models together may use.")
@click.option("--package-path", "package_paths", multiple=True, type=click.Path(path_type=Path, file_okay=False),
              help="For a recipe: where package://NAME/FILE is looked for first.")  # fmt: skip
@store_option
@trust_options
@key_options
@verb_options
def command(console: Console, source: Path, inputs: tuple[str, ...], **options: Any) -> None:
    """Run a pipeline or model of SOURCE, a bundle or a recipe, on files, and print the outputs as JSON.

    An input is FILE (- for standard input), with its name where there are several. Images are given encoded, tensors as
    .npy. A recipe is carried out through the store and never packed: change it, run it again.

    \b
    sdkpack run acme-ocr-1.0.0.sdkpack page.png --trust publisher.pub --key customer.key
    sdkpack run recipe.toml page.png --until heat --dump intermediates/
    """
    with _session(console, source, options) as session:
        name = _name(session, options["name"])
        values = _inputs(session, name, inputs)
        trace = _Dump(options["dump"]) if options["dump"] else None
        outputs = session.run(
            name, values, params=_params(options["params"]) or None, trace=trace, until=options["until"]
        )
        from sdkpack.session.values import json_value

        facts = {"outputs": json_value(outputs)}
    console.result(json_text(facts["outputs"]), facts)


@contextmanager
def _session(console: Console, source: Path, options: dict[str, Any]) -> Iterator[Session]:
    import sdkpack

    chosen: dict[str, Any] = {"targets": options["targets"], "threads": options["threads"]}
    if source.is_dir() or source.suffix == ".toml":
        with (
            _packed(console, source, options) as bundle,
            sdkpack.open(bundle, allow_unsigned=True, **chosen) as session,
        ):
            yield session
        return
    trust = stated_trust(options["trust"], options["allow_unsigned"])
    with sdkpack.open(
        source, trust=trust, allow_unsigned=options["allow_unsigned"], keys=options["keys"], **chosen
    ) as session:
        yield session


@contextmanager
def _packed(console: Console, recipe: Path, options: dict[str, Any]) -> Iterator[Path]:
    """A plain bundle of the recipe in a work folder of the store, gone afterwards."""
    from sdkpack.build.pack import pack

    with building(console, options["store"]) as tools:
        store = tools["store"]
        with store.workspaces.work("run") as folder:
            bundle = folder / "recipe.sdkpack"
            pack(recipe, out=bundle, package_paths=options["package_paths"], sealed=False, **tools)
            yield bundle


def _name(session: Session, stated: str | None) -> str:
    if stated is not None:
        known = (*session.pipelines, *session.models)
        if stated not in known:
            near = difflib.get_close_matches(stated, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise UsageError(f"no pipeline or model {stated!r}", hint=hint)
        return stated
    names = session.pipelines or session.models
    if len(names) == 1:
        return names[0]
    raise UsageError(f"there are several: {', '.join(names)}", hint=f"say which: -p {names[0]}")


def _types(session: Session, name: str) -> dict[str, ValueType]:
    from sdkpack.types import ValueType

    pipeline = session.manifest.pipelines.get(name)
    if pipeline is not None:
        return {key: ValueType.parse(text) for key, text in pipeline.inputs.items()}
    model = session.manifest.models.get(name)
    return {entry.name: entry.spec().type for entry in model.inputs} if model is not None else {}


def _inputs(session: Session, name: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Values by input name: `NAME=FILE`, or FILE for the only input."""
    from sdkpack.session.values import input_from_file

    kinds = _types(session, name)
    values = {}
    for text in given:
        key, equals, file = text.partition("=")
        if not equals or key not in kinds:
            key, file = (next(iter(kinds)), text) if len(kinds) == 1 else (key, file)
        if key not in kinds or not file:
            raise UsageError(f"{text!r} names no input of {name!r}", hint=f"NAME=FILE, with NAME {' or '.join(kinds)}")
        values[key] = input_from_file(kinds[key], _content(file), where=file)
    return values


def _content(file: str) -> bytes:
    from sdkpack.session.values import read_input_file

    return sys.stdin.buffer.read() if file == "-" else read_input_file(Path(file))


def _params(given: tuple[str, ...]) -> dict[str, Any]:
    """JSON values; what is no JSON is a text."""
    params: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--param {text!r}: expected NAME=VALUE")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


class _Dump:
    """Writes each intermediate value to a file as it comes: arrays as .npy, everything else as JSON."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: str, name: str, value: Any) -> None:
        import numpy as np

        from sdkpack.session.values import json_value

        self._count += 1
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", f"{self._count:03d}-{step}-{name}")
        if isinstance(value, np.ndarray) and value.dtype != object:
            np.save(self._folder / f"{stem}.npy", value, allow_pickle=False)
            return
        if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
            for number, item in enumerate(value):
                np.save(self._folder / f"{stem}-{number:03d}.npy", item, allow_pickle=False)
            return
        text = json.dumps(json_value(value), indent=2, ensure_ascii=False)
        (self._folder / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
