"""`sdkpack plugins check`: conformance, operator coverage, a report to publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sdkpack.cli.console import Console, verb_options

__all__ = ["check"]

_GATE_NOT_MET = 6
_KINDS = ("runtime", "operator", "converter", "optimizer", "compressor", "exporter", "key-provider")


@click.command("check")
@click.argument("name")
@click.option("--operators", is_flag=True, help="Also run ONNX's backend suite against a runtime: half a minute.")
@click.option("--expected", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The cases that are expected to fail, with reasons; others that fail do count.")  # fmt: skip
@click.option("--with", "settings", metavar="JSON", default="{}", help="The plugin's parameters, where it needs some.")
@click.option("--kind", type=click.Choice(_KINDS), default=None, help="Where plugins of several kinds have the name.")
@click.option("--source", type=click.Path(path_type=Path, exists=True),
              help="For a converter: a model of its format, file or folder.")  # fmt: skip
@click.option("--file", "files", multiple=True, metavar="ROLE=FILE", help="A further file of that model, by its role.")
@click.option("--allow-code", is_flag=True, help="Code that the model brings may run, in a process of its own.")
@click.option("--tests", type=click.Path(path_type=Path, exists=True),
              help="The plugin's own tests: the conformance classes there are run, with their models.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the report: NAME.json, or NAME.html for people.")  # fmt: skip
@verb_options
@click.pass_context
def check(
    ctx: click.Context,
    console: Console,
    name: str,
    operators: bool,
    expected: Path | None,
    settings: str,
    kind: str | None,
    source: Path | None,
    files: tuple[str, ...],
    allow_code: bool,
    tests: Path | None,
    out: Path | None,
) -> None:
    """Hold plugin NAME to what every plugin of its kind must hold to.

    A converter needs a model of its format: --source, or --tests for what needs more than a file.

    Needs the conformance kit: pip install 'sdkpack[testing]'. What is checked is listed in docs/plugins/conformance.md.
    """
    from sdkpack.testing.check import CheckWish, check_plugin

    wish = CheckWish(
        operators=operators, expected=expected, params=_settings(settings), kind=(kind or "").replace("-", " "),
        source=source, files=_files(files), allow_code=allow_code, tests=tests,
    )  # fmt: skip
    console.say(f"checking {name}: this takes a while")
    report = check_plugin(name, wish)
    facts = report.as_json()
    if out is not None:
        _write(out, facts)
        console.say(f"wrote {out}")
    console.result(_text(facts), {"ok": report.passed} | facts)
    if not report.passed:
        ctx.exit(_GATE_NOT_MET)


def _files(pairs: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for pair in pairs:
        role, _, path = pair.partition("=")
        if not role or not Path(path).is_file():
            raise click.UsageError(f"--file is ROLE=FILE, such as labels=net.names; got {pair!r}")
        found[role] = Path(path)
    return found


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--with is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise click.UsageError('--with is an object, such as {"k": 2}')
    return settings


def _write(out: Path, facts: dict[str, Any]) -> None:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.testing.html import page

    html = out.suffix.lower() in (".html", ".htm")
    text = page(facts) if html else json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    with atomic_file(out, overwrite=True) as stream:
        stream.write(text.encode())


def _text(facts: dict[str, Any]) -> str:
    lines = [_line(test) for test in facts["tests"]]
    lines += [f"deprecated: {use}" for use in facts["deprecated"]]
    coverage = facts.get("coverage")
    if coverage:
        totals = ", ".join(f"{count} {name}" for name, count in coverage["totals"].items() if count)
        lines.append(f"operators: {coverage['cases']} cases: {totals}")
        if "as_expected" in coverage:
            lines += [f"not expected: {one['case']}: {one['result']}: {one['reason']}" for one in coverage["unlisted"]]
            lines += [f"expected to fail, and passes: {case}" for case in coverage["unexpected_passes"]]
            lines += [f"expected to fail, and there is no such case: {case}" for case in coverage["absent"]]
    lines.append(f"{facts['plugin']} {'passed' if facts['passed'] else 'failed'}")
    return "\n".join(lines)


def _line(test: dict[str, str]) -> str:
    words = test["name"].removeprefix("test_").replace("_", " ")
    reason = " ".join(test["reason"].split())[:200]
    return f"{test['outcome']:8}{words}" + (f": {reason}" if reason else "")
