"""`sdkpack convert`: one model, without a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sdkpack.cli.building import building, store_option
from sdkpack.cli.console import Console, size_text, table, verb_options
from sdkpack.cli.sources import EXPORTED, hints_as_options, nested, settings_of, source_options, source_section

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted, Export

__all__ = ["command", "converted_facts"]

_MOST_OPERATORS: Final = 8


@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="A file or folder; the source's name in the current folder where absent.")  # fmt: skip
@click.option("--to", metavar="FORMAT",
              help="Another format than ONNX: a converter's name or media type.")  # fmt: skip
@source_options
@click.option("--cut-input", "cut_inputs", multiple=True, metavar="TENSOR",
              help="Where to begin, instead of the model's inputs.")  # fmt: skip
@click.option("--cut-output", "cut_outputs", multiple=True, metavar="TENSOR",
              help="Where to end, instead of the model's outputs.")  # fmt: skip
@click.option("--max-error", type=click.FloatRange(min=0), help="The greatest normalised error that is accepted.")
@click.option("--no-compare", is_flag=True, help="Do not hold the result against the source.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@store_option
@verb_options
def command(console: Console, source: Path, output: Path | None, force: bool, store: Path | None, **words: Any) -> None:
    """Convert the model SOURCE to ONNX, and compare the result with the source, run by its own framework.

    What SOURCE is, is told by its content. The result is written only where the two agree, or where the source cannot
    be run; the page says which. With --to, the ONNX model goes on to another format, and is read back to be compared;
    settings of that converter begin with `to.`, as in --set to.KEY=VALUE.

    \b
    sdkpack convert net.acme --input x=[N,3,224,224] --range x=0:1
    sdkpack convert weights.acme --file code=net.py --set factory=net:make --allow-code
    """
    from sdkpack.build.convert import convert
    from sdkpack.build.runner import step_runner

    cut = {"inputs": list(words["cut_inputs"]), "outputs": list(words["cut_outputs"])}
    said = {"compare": not words["no_compare"], "max_error": words["max_error"]}
    section, given = source_section(source, words, convert=said, **({"cut": cut} if any(cut.values()) else {}))
    with building(console, store) as tools:
        registry = tools.pop("registry")
        with step_runner(**tools) as runner, hints_as_options():
            made = convert(
                source, registry=registry, runner=runner, section=section, given=given, export=_export(words),
                out=output, overwrite=force,
            )  # fmt: skip
    console.result(_page(source, made), converted_facts(made))
    if made.files[0].suffix == ".onnx":
        console.hint(f"sdkpack init {made.files[0]}")


def _export(words: Mapping[str, Any]) -> Export | None:
    from sdkpack.build.convert import Export
    from sdkpack.documents.recipe import ConvertSection

    if words["to"] in (None, "onnx"):
        return None
    params = nested(
        (key.removeprefix(EXPORTED), value) for key, value in settings_of(words) if key.startswith(EXPORTED)
    )
    facts = {"with": params} | ({"max_error": words["max_error"]} if words["max_error"] is not None else {})
    return Export(to=words["to"], section=ConvertSection.from_object(facts, where="the command line"))


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


def converted_facts(made: Converted) -> dict[str, Any]:
    """For --json."""
    return {
        "files": [{"path": str(path), "size_bytes": path.stat().st_size} for path in made.files],
        "source_format": made.source_format,
        "converters": list(made.converters),
        "opset": made.opset,
        "inputs": [str(spec) for spec in made.inputs],
        "outputs": [str(spec) for spec in made.outputs],
        "operators": dict(made.operators),
        "evidence": [dict(finding) for finding in made.evidence],
        "passes": [dict(one) for one in made.passes],
        "notes": list(made.notes),
        "steps": {"run": made.ran, "stored": made.cached},
    }
