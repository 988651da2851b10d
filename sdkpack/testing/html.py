"""The report of a check as one page of HTML: no script, no other file, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["page"]

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .2rem .8rem .2rem 0;
border-bottom: 1px solid #ddd; vertical-align: top } td.n { text-align: right }
.passed, .pass { color: #176b2c } .failed, .error, .wrong { color: #a31515 } .skipped, .other { color: #666 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } th, td { border-color: #333 }
.passed, .pass { color: #7ccf8f } .failed, .error, .wrong { color: #ff8f8f } }
"""


def page(report: Mapping[str, Any]) -> str:
    """The page for a `CheckReport.as_json()`."""
    name = escape(report["plugin"])
    verdict = "passed" if report["passed"] else "failed"
    api = ".".join(map(str, report["api"]))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in report["conformance"].items())
    source = escape(f"{report['distribution']} {report['version']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: sdkpack plugin check</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f'<h1>{name} <span class="{verdict}">{verdict}</span></h1>\n'
        f"<p>{escape(report['kind'])} of {source}, plugin API {api}. Conformance tests: {counts}.</p>\n"
        f"{''.join(f'<p>It uses {escape(use)}.</p>' for use in report.get('deprecated', ()))}"
        f"<h2>Conformance</h2>\n{_tests(report['tests'])}\n{_coverage(report.get('coverage', {}))}</body></html>\n"
    )


def _tests(tests: Iterable[Mapping[str, str]]) -> str:
    rows = (
        (_words(test["name"]), f'<span class="{escape(test["outcome"])}">{escape(test["outcome"])}</span>',
         escape(test["reason"]))
        for test in tests
    )  # fmt: skip
    return _table(("test", "outcome", "reason"), rows)


def _coverage(coverage: Mapping[str, Any]) -> str:
    if not coverage:
        return ""
    totals = _table(("outcome", "cases"), ((escape(k), str(v)) for k, v in coverage["totals"].items()), numbers=1)
    operators = _table(
        ("operator", "passes", "other cases", "highest opset that passes"),
        (_operator(line) for line in coverage["operators"]),
        numbers=3,
    )
    failures = _table(
        ("case", "outcome", "reason"),
        ((escape(c["case"]), escape(c["result"]), escape(c.get("expected") or c["reason"]))
         for c in coverage["outcomes"] if c["result"] != "pass"),
    )  # fmt: skip
    versions = ", ".join(f"{escape(name)} {escape(version)}" for name, version in coverage["versions"].items())
    return (
        f"<h2>Operator coverage</h2>\n<p>{coverage['cases']} cases of ONNX's backend suite ({versions}; "
        f"{escape(coverage['fingerprint'])}), precision {escape(coverage['precision'])}; "
        f"tolerance: {escape(coverage['rule'])}.</p>\n{totals}\n<h2>Operators</h2>\n{operators}\n"
        f"<h2>What does not pass</h2>\n{failures}\n"
    )


def _operator(line: Mapping[str, Any]) -> tuple[str, ...]:
    other = sum(value for key, value in line.items() if key not in ("operator", "highest_opset", "pass"))
    return escape(line["operator"]), str(line.get("pass", 0)), str(other), str(line["highest_opset"] or "none")


def _words(name: str) -> str:
    return escape(name.removeprefix("test_").replace("_", " "))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """A table; the last `numbers` columns are numbers. Cells are HTML already."""
    plain = len(head) - numbers
    lines = [
        "<tr>" + "".join(f"<td{' class=n' if at >= plain else ''}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>\n" + "\n".join(lines) + "</table>"
