"""`sdkpack convert`: one model, without a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sdkpack.cli.building import building, store_option
from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted, Export
    from sdkpack.documents.recipe import ModelSection

__all__ = ["command"]

_MOST_OPERATORS: Final = 8
_INPUT: Final = re.compile(r"(?P<dtype>[a-z0-9_]+)?(?:\[(?P<shape>[^\]]*)\])?(?P<layout>[A-Z]+)?")


@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="A file or folder; the source's name in the current folder where absent.")  # fmt: skip
@click.option("--to", metavar="FORMAT", help="Another format than ONNX: a converter's name or a media type.")
@click.option("--converter", metavar="NAME", help="Which plugin reads SOURCE; the surest where absent.")
@click.option("--file", "files", multiple=True, metavar="ROLE=PATH",
              help="A further file of the model, by the name that the converter gives it.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="A setting of the converter, as JSON or plain text; to.KEY=VALUE for that of --to.")  # fmt: skip
@click.option("--input", "inputs", multiple=True, metavar="NAME=SPEC",
              help="What an input takes where the file does not say it: float32[N,3,224,224]NCHW.")  # fmt: skip
@click.option("--range", "ranges", multiple=True, metavar="NAME=LEAST:MOST",
              help="What an input is fed in comparisons, from the least number to the greatest.")  # fmt: skip
@click.option("--sample", "samples", multiple=True, metavar="FILE.npz",
              help="Real inputs to compare with.")  # fmt: skip
@click.option(
    "--cut-input", "cut_inputs", multiple=True, metavar="TENSOR", help="Where to begin, instead of the model's inputs."
)
@click.option(
    "--cut-output", "cut_outputs", multiple=True, metavar="TENSOR", help="Where to end, instead of the model's outputs."
)
@click.option("--opset", type=click.IntRange(min=7), help="The newest version of ONNX's operators to write.")
@click.option("--allow-code", is_flag=True, help="Let code that SOURCE brings run, in the converter's own process.")
@click.option("--max-error", type=click.FloatRange(min=0), help="The greatest normalised error that is accepted.")
@click.option("--no-compare", is_flag=True, help="Do not hold the result against the source.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@store_option
@verb_options
def command(console: Console, source: Path, output: Path | None, force: bool, store: Path | None, **words: Any) -> None:
    """Convert the model SOURCE to ONNX, and compare the result with the source, run by its own framework.

    What SOURCE is, is told by its content. The result is written only where the two agree, or where the source cannot
    be run; the page says which. With --to, the ONNX model goes on to another format, and is read back to be compared.

    \b
    sdkpack convert net.acme --input x=[N,3,224,224] --range x=0:1
    sdkpack convert weights.acme --file code=net.py --set factory=net:make --allow-code
    """
    from sdkpack.build.convert import convert
    from sdkpack.build.runner import step_runner

    section, given = _section(source, words)
    with building(console, store) as tools:
        registry = tools.pop("registry")
        with step_runner(**tools) as runner:
            made = convert(
                source, registry=registry, runner=runner, section=section, given=given, export=_export(words),
                out=output, overwrite=force,
            )  # fmt: skip
    console.result(_page(source, made), _facts(made))
    if made.files[0].suffix == ".onnx":
        console.hint(f"sdkpack init {made.files[0]}")


# From words to settings -------------------------------------------------------------------------------------------
def _section(source: Path, words: Mapping[str, Any]) -> tuple[ModelSection, dict[str, Path]]:
    """What a recipe would say of the model; and the files that it names."""
    from sdkpack.documents.recipe import ModelSection

    given: dict[str, Path] = {}
    files = {}
    for role, path in _pairs(words["files"], "--file", "ROLE=PATH"):
        files[role] = path
        given[path] = _existing(Path(path))
    for path in words["samples"]:
        given[path] = _existing(Path(path))
    convert = {
        "converter": words["converter"],
        "files": files,
        "with": {key: value for key, value in _settings(words) if not key.startswith("to.")},
        "opset": words["opset"],
        "allow_code": words["allow_code"],
        "compare": not words["no_compare"],
        "max_error": words["max_error"],
    }
    facts: dict[str, Any] = {
        "source": source.name,
        "convert": {key: value for key, value in convert.items() if value is not None},
        "inputs": _inputs(words),
        "samples": list(words["samples"]),
    }
    cut = {"inputs": list(words["cut_inputs"]), "outputs": list(words["cut_outputs"])}
    if any(cut.values()):
        facts["cut"] = cut
    return ModelSection.from_object(facts, where="sdkpack convert"), given


def _export(words: Mapping[str, Any]) -> Export | None:
    from sdkpack.build.convert import Export
    from sdkpack.documents.recipe import ConvertSection

    if words["to"] in (None, "onnx"):
        return None
    params = {key.removeprefix("to."): value for key, value in _settings(words) if key.startswith("to.")}
    facts = {"with": params} | ({"max_error": words["max_error"]} if words["max_error"] is not None else {})
    return Export(to=words["to"], section=ConvertSection.from_object(facts, where="sdkpack convert"))


def _settings(words: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, text in _pairs(words["settings"], "--set", "KEY=VALUE"):
        try:
            found.append((key, json.loads(text)))
        except ValueError:
            found.append((key, text))
    return found


def _inputs(words: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, text in _pairs(words["inputs"], "--input", "NAME=SPEC"):
        match = _INPUT.fullmatch(text)
        if match is None or not text:
            raise click.UsageError(f"--input {name}: got {text!r}, expected a form such as float32[N,3,224,224]NCHW")
        section: dict[str, Any] = {key: match[key] for key in ("dtype", "layout") if match[key]}
        if match["shape"] is not None:
            section["shape"] = [int(dim) if dim.isdigit() else dim for dim in _dims(match["shape"])]
        found[name] = section
    for name, text in _pairs(words["ranges"], "--range", "NAME=LEAST:MOST"):
        least, _, most = text.partition(":")
        try:
            found.setdefault(name, {})["range"] = [float(least), float(most)]
        except ValueError:
            raise click.UsageError(f"--range {name}: got {text!r}, expected a form such as 0:255") from None
    return found


def _dims(text: str) -> list[str]:
    return [dim.strip() for dim in text.split(",") if dim.strip()]


def _pairs(texts: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{option}: got {text!r}, expected {form}")
        pairs.append((key, value))
    return pairs


def _existing(path: Path) -> Path:
    from sdkpack.errors import FileError

    if not path.exists():
        raise FileError(f"there is no file '{path}'", hint="check the path")
    return path


# What came of it --------------------------------------------------------------------------------------------------
def _page(source: Path, made: Converted) -> str:
    operators = sorted(made.operators.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in operators[:_MOST_OPERATORS])
    more = f", and {len(operators) - _MOST_OPERATORS} more" if len(operators) > _MOST_OPERATORS else ""
    rows = [("wrote", f"{path}  {size_text(path.stat().st_size)}") for path in made.files]
    rows += [("opset", str(made.opset)), *(("input", str(spec)) for spec in made.inputs)]
    rows += [*(("output", str(spec)) for spec in made.outputs), ("operators", shown + more)]
    rows += [("compared", line) for finding in made.evidence for line in _lines(finding)]
    rows += [("note", note) for note in made.notes]
    rows.append(("steps", f"{made.ran} run, {made.cached} from the store"))
    by = f" by {' and '.join(made.converters)}" if made.converters else ""
    return "\n".join([f"converted {source}{by}", table(rows, indent="  ")])


def _lines(finding: Mapping[str, Any]) -> list[str]:
    if not finding["passed"]:
        return [str(finding["note"])]
    lines = []
    for tensor in finding["tensors"]:
        snr = f", SNR {tensor['snr_db']:.0f} dB" if "snr_db" in tensor else ""
        lines.append(f"{tensor['name']}: normalised error {tensor['normalized_error']:.2g}{snr}")
    return [*lines, str(finding["note"])]


def _facts(made: Converted) -> dict[str, Any]:
    return {
        "files": [{"path": str(path), "size_bytes": path.stat().st_size} for path in made.files],
        "source_format": made.source_format,
        "converters": list(made.converters),
        "opset": made.opset,
        "inputs": [str(spec) for spec in made.inputs],
        "outputs": [str(spec) for spec in made.outputs],
        "operators": dict(made.operators),
        "evidence": [dict(finding) for finding in made.evidence],
        "notes": list(made.notes),
        "steps": {"run": made.ran, "stored": made.cached},
    }
