"""What convert and optimize share: words of the command line that a recipe has below `models.NAME`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from sdkpack.documents.recipe import ModelSection

__all__ = [
    "EXPORTED",
    "hints_as_options",
    "nested",
    "pairs",
    "settings_of",
    "source_options",
    "source_section",
    "value_of",
]

R = TypeVar("R")

EXPORTED: Final = "to."
"""Begins the settings of the converter to another format."""

_INPUT: Final = re.compile(r"(?P<dtype>[a-z0-9_]+)?(?:\[(?P<shape>[^\]]*)\])?(?P<layout>[A-Z]+)?")
_CONVERT: Final = r"models\.[\w-]+\.convert\."
_HINTS: Final = tuple(
    (re.compile(pattern), option)
    for pattern, option in (
        (_CONVERT + r"with\.([\w.-]+) = (?:\"([^\"]*)\"|(\S+))", r"--set \1=\2\3"),
        (_CONVERT + r"with\.([\w.-]+)", r"--set \1=..."),
        (_CONVERT + r"files\.([\w-]+) = \"([^\"]*)\"", r"--file \1=\2"),
        (_CONVERT + r"allow_code = true", "--allow-code"),
        (_CONVERT + r"compare = false", "--no-compare"),
        (_CONVERT + r"max_error", "--max-error"),
        (_CONVERT + r"opset = (\d+)", r"--opset \1"),
        (r"(?:in the recipe, for its model: )?convert\.converter = '([^']*)'", r"--converter \1"),
        (r"\b(name it|fix them|allow it|say it|set it) in the recipe: (?=--)", r"\1: "),
    )
)
"""What hints say of a recipe -> the option that says it here."""
_OPTIONS: Final = (
    click.option("--converter", metavar="NAME", help="Which plugin reads SOURCE; the surest where absent."),
    click.option("--file", "files", multiple=True, metavar="ROLE=PATH",
                 help="A further file of the model, by the name that the converter gives it."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                 help="A setting of the converter, as JSON or plain text."),
    click.option("--input", "inputs", multiple=True, metavar="NAME=SPEC",
                 help="What an input takes where the file does not say it: float32[N,3,224,224]NCHW."),
    click.option("--range", "ranges", multiple=True, metavar="NAME=LEAST:MOST",
                 help="What an input is fed in comparisons, from the least number to the greatest."),
    click.option("--sample", "samples", multiple=True, metavar="FILE.npz", help="Real inputs to compare with."),
    click.option("--opset", type=click.IntRange(min=7),
                 help="The newest version of ONNX's operators that the converter writes."),
    click.option("--allow-code", is_flag=True,
                 help="Let code that SOURCE brings run, in the converter's own process."),
)  # fmt: skip


def source_options(function: Callable[..., R]) -> Callable[..., R]:
    """Adds what is said of SOURCE."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def source_section(
    source: Path, words: Mapping[str, Any], *, convert: Mapping[str, Any], **more: Mapping[str, Any]
) -> tuple[ModelSection, dict[str, Path]]:
    """What a recipe would say of the model; and the files that it names.

    Args:
        source: the model.
        words: of `source_options`.
        convert: further facts of the section `convert`.
        more: further sections.

    Raises:
        FileError: a file is missing.
        DocumentError: a section is not valid.
    """
    from sdkpack.documents.recipe import ModelSection

    given = {path: _existing(Path(path)) for path in words["samples"]}
    files = {}
    for role, path in pairs(words["files"], "--file", "ROLE=PATH"):
        files[role] = path
        given[path] = _existing(Path(path))
    settings = nested((key, value) for key, value in settings_of(words) if not key.startswith(EXPORTED))
    said = {
        "converter": words["converter"], "files": files, "with": settings, "opset": words["opset"],
        "allow_code": words["allow_code"], **convert,
    }  # fmt: skip
    facts = {
        "source": source.name,
        "convert": {key: value for key, value in said.items() if value is not None},
        "inputs": _inputs(words),
        "samples": list(words["samples"]),
        **more,
    }
    return ModelSection.from_object(facts, where="the command line"), given


def settings_of(words: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The settings of converters, by key."""
    return [(key, value_of(text)) for key, text in pairs(words["settings"], "--set", "KEY=VALUE")]


def nested(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Keys with dots as tables in tables, as in TOML: `constants.rate=16000`."""
    made: dict[str, Any] = {}
    for key, value in settings:
        *tables, last = key.split(".")
        place = made
        for name in tables:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"--set {key}: {name!r} has a value already, so it holds no {last!r}")
        place[last] = value
    return made


@contextmanager
def hints_as_options() -> Iterator[None]:
    """Turns what an error's hint says of a recipe into what the command line has for it."""
    from sdkpack.errors import SdkpackError

    try:
        yield
    except SdkpackError as error:
        for pattern, option in _HINTS:
            error.hint = pattern.sub(option, error.hint)
        raise


def value_of(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def pairs(texts: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    """`KEY=VALUE` apart.

    Raises:
        UsageError: a text has another form.
    """
    found = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{option}: got {text!r}, expected {form}")
        found.append((key, value))
    return found


def _inputs(words: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, text in pairs(words["inputs"], "--input", "NAME=SPEC"):
        match = _INPUT.fullmatch(text)
        if match is None or not text:
            raise click.UsageError(f"--input {name}: got {text!r}, expected a form such as float32[N,3,224,224]NCHW")
        section: dict[str, Any] = {key: match[key] for key in ("dtype", "layout") if match[key]}
        if match["shape"] is not None:
            section["shape"] = [int(dim) if dim.isdigit() else dim for dim in _dims(match["shape"])]
        found[name] = section
    for name, text in pairs(words["ranges"], "--range", "NAME=LEAST:MOST"):
        least, _, most = text.partition(":")
        try:
            found.setdefault(name, {})["range"] = [float(least), float(most)]
        except ValueError:
            raise click.UsageError(f"--range {name}: got {text!r}, expected a form such as 0:255") from None
    return found


def _dims(text: str) -> list[str]:
    return [dim.strip() for dim in text.split(",") if dim.strip()]


def _existing(path: Path) -> Path:
    from sdkpack.errors import FileError

    if not path.exists():
        raise FileError(f"there is no file '{path}'", hint="check the path")
    return path
