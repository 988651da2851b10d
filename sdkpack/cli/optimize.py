"""`sdkpack optimize`: one model, without a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.building import building, store_option
from sdkpack.cli.console import Console, size_text, table, verb_options
from sdkpack.cli.convert import converted_facts
from sdkpack.cli.sources import hints_as_options, pairs, source_options, source_section, value_of

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted

__all__ = ["command"]


@click.command("optimize")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="A file or folder; the source's name with .optimized.onnx where absent.")  # fmt: skip
@click.option("--level", type=click.Choice(["safe", "standard", "max", "none"]), default="standard", show_default=True,
              help="Which passes run by themselves.")  # fmt: skip
@click.option("--pass", "passes", multiple=True, metavar="NAME[=off]",
              help="Switch a pass on or off, whatever the level.")  # fmt: skip
@click.option("--pass-set", "pass_settings", multiple=True, metavar="NAME.KEY=VALUE",
              help="A setting of a pass, as JSON or plain text.")  # fmt: skip
@click.option("--for", "runtime", metavar="RUNTIME", help="Bring in only what this runtime takes.")
@click.option("--to-opset", type=click.IntRange(min=7), help="The version of ONNX's operators to bring the model to.")
@click.option("--strict", is_flag=True, help="End with an error where a pass would have to be undone.")
@click.option("--time-limit", type=click.FloatRange(min=1), default=600.0, show_default=True,
              help="Seconds; what has not run by then is left out.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False),
              help="Write what each pass did, with a picture of both graphs, as an HTML page.")  # fmt: skip
@source_options
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@store_option
@verb_options
def command(
    console: Console,
    source: Path,
    output: Path | None,
    runtime: str | None,
    report: Path | None,
    force: bool,
    store: Path | None,
    **words: Any,
) -> None:
    """Make the graph of SOURCE (ONNX, or what a converter reads) as small as it goes without changing what it means.

    After each pass the model is loaded, run on several inputs and sizes, and compared with what came in: a pass that
    changes an output, an input, an open size or a licence is undone and named, and the others go on.
    """
    from sdkpack.build.convert import convert
    from sdkpack.build.runner import step_runner
    from sdkpack.errors import OutputError

    section, given = source_section(source, words, convert={}, optimize=_optimize(words))
    target = output or Path(f"{source.stem}.optimized.onnx")
    if report is not None and report.exists() and not force:
        raise OutputError(f"'{report}' exists already", hint="choose another name, or replace it (--force)")
    with building(console, store) as tools:
        registry = tools.pop("registry")
        with step_runner(**tools) as runner, hints_as_options():
            made = convert(
                source, registry=registry, runner=runner, section=section, given=given, runtime=runtime, out=target,
                overwrite=force,
            )  # fmt: skip
    if report is not None:
        _write_report(source, made, report)
    console.result(_page(source, made, report), converted_facts(made) | {"report": str(report) if report else None})


def _optimize(words: Mapping[str, Any]) -> dict[str, Any]:
    passes, settings = {}, dict[str, dict[str, Any]]()
    for text in words["passes"]:
        name, _, state = text.partition("=")
        if state not in ("", "on", "off"):
            raise click.UsageError(f"--pass: got {text!r}, expected NAME or NAME=off")
        passes[name] = state != "off"
    for key, text in pairs(words["pass_settings"], "--pass-set", "NAME.KEY=VALUE"):
        name, _, setting = key.rpartition(".")
        settings.setdefault(name, {})[setting] = value_of(text)
    facts = {
        "level": words["level"], "passes": passes, "with": settings, "strict": words["strict"],
        "time_limit_s": words["time_limit"],
    }  # fmt: skip
    return facts | ({"opset": words["to_opset"]} if words["to_opset"] is not None else {})


# What came of it --------------------------------------------------------------------------------------------------
def _page(source: Path, made: Converted, report: Path | None) -> str:
    rows: list[tuple[str, ...]] = [("PASS", "CATEGORY", "NODES", "CONSTANTS", "TIME", "VERDICT")]
    rows += [_row(one) for one in made.passes if one["verdict"] != "nothing to do"]
    before, after = _ends(made.passes)
    lines = [f"optimised {source}", table([("nodes", f"{before} to {after}"), *_facts(made, report)], indent="  ")]
    if len(rows) > 1:
        lines += [table(rows, indent="  ")]
    idle = sorted({one["name"] for one in made.passes} - {row[0] for row in rows})
    if idle:
        lines.append(f"  nothing to do for {', '.join(idle)}")
    lines += [f"  undone: {one['name']}: {one['reason']}" for one in made.passes if one["verdict"] == "undone"]
    return "\n".join(lines)


def _ends(passes: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    if not passes:
        return 0, 0
    return sum(passes[0]["before"].values()), sum(passes[-1]["after"].values())


def _facts(made: Converted, report: Path | None) -> list[tuple[str, str]]:
    rows = [("wrote", f"{path}  {size_text(path.stat().st_size)}") for path in made.files]
    if made.passes:
        first, last = made.passes[0]["before_bytes"], made.passes[-1]["after_bytes"]
        rows.append(("constants", f"{size_text(first)} to {size_text(last)}"))
        change = Counter(made.passes[-1]["after"])
        change.subtract(made.passes[0]["before"])
        gone = [f"{name} {count:+d}" for name, count in sorted(change.items(), key=lambda item: item[1]) if count]
        rows.append(("operators", ", ".join(gone[:10]) or "as before"))
    rows += [("compared", str(one["note"])) for one in made.evidence]
    rows += [("report", str(report))] if report else []
    return rows


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    nodes = sum(one["after"].values()) - sum(one["before"].values())
    size = one["after_bytes"] - one["before_bytes"]
    return (
        one["name"], one["category"], f"{nodes:+d}" if nodes else "0", f"{size:+d} B" if size else "0",
        f"{one['seconds']:.2f} s", one["verdict"],
    )  # fmt: skip


def _write_report(source: Path, made: Converted, report: Path) -> None:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.cli.report.page import page

    with atomic_file(report, overwrite=True) as out:
        out.write(page(source.name, made).encode())
