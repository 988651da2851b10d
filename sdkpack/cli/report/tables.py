"""The report's figures: what there was, what there is, what each pass did, what was compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sdkpack.cli.console import size_text
from sdkpack.cli.report.kinds import kind_of
from sdkpack.cli.report.markup import Markup, element, join

if TYPE_CHECKING:
    from sdkpack.build.convert import Converted

__all__ = ["by_category", "by_operator", "by_pass", "cards", "compared", "count", "idle", "undone"]

Row = Mapping[str, Any]
"""What became of one pass, as `Converted.passes` has it."""

_CATEGORIES: Final = ("constant-folding", "arithmetic", "dependency", "function", "fusion", "information")
_IDLE: Final = "nothing to do"
_BAR_PX: Final = 90
_MINUS: Final = "\N{MINUS SIGN}"


def cards(passes: Sequence[Row], made: Converted) -> Markup:
    """The few figures that somebody looks at first."""
    verdicts = Counter(one["verdict"] for one in passes)
    told = [f"{count} {verdict}" for verdict, count in sorted(verdicts.items()) if verdict != _IDLE]
    rows = []
    if passes:
        before, after = passes[0]["before"], passes[-1]["after"]
        nodes = _sum(before), _sum(after)
        size = passes[0]["before_bytes"], passes[-1]["after_bytes"]
        went, came = sorted(set(before) - set(after)), sorted(set(after) - set(before))
        rows += [
            ("Nodes", _change(*nodes), _percent(*nodes)),
            ("Constants", f"{size_text(size[0])} → {size_text(size[1])}", _percent(*size)),
            ("Kinds of operators", _change(len(before), len(after)),
             "; ".join([*([f"gone: {_few(went)}"] if went else []), *([f"new: {_few(came)}"] if came else [])])),
            ("Passes tried", str(len(passes)), ", ".join(told) or "nothing to do for any"),
            ("Time in passes", f"{sum(one['seconds'] for one in passes):.1f} s",
             count(max(one["round"] for one in passes), "round")),
        ]  # fmt: skip
    rows.append(
        ("Model", f"opset {made.opset}", f"{count(len(made.inputs), 'input')}, {count(len(made.outputs), 'output')}")
    )
    small = [element("div", element("dt", title), element("dd", value, element("small", more)))
             for title, value, more in rows]  # fmt: skip
    return element("dl", *small, class_="cards")


def by_operator(passes: Sequence[Row]) -> Markup:
    before, after = passes[0]["before"], passes[-1]["after"]
    names = sorted({*before, *after}, key=lambda name: (-max(before.get(name, 0), after.get(name, 0)), name))
    most = max((*before.values(), *after.values()), default=1)
    rows = [
        [
            ("what", join(_swatch(name), name)),
            ("number", str(before.get(name, 0))), ("number", str(after.get(name, 0))),
            ("number", _signed(after.get(name, 0) - before.get(name, 0))),
            ("", _bar(before.get(name, 0), after.get(name, 0), most)),
        ]
        for name in names
    ]  # fmt: skip
    head = [("operator", ""), ("before", "number"), ("after", "number"), ("change", "number"), ("", "")]
    return element("div", _table(head, rows, "Subgraphs and functions are counted too."), class_="narrow")


def by_category(passes: Sequence[Row]) -> Markup:
    found = {one["category"] for one in passes}
    order = [name for name in _CATEGORIES if name in found] + sorted(found - set(_CATEGORIES))
    rows = []
    for category in order:
        tried = [one for one in passes if one["category"] == category]
        verdicts = Counter(one["verdict"] for one in tried)
        rows.append([
            ("what", category), ("number", str(len({one["name"] for one in tried}))),
            ("number", _signed(sum(_nodes(one) for one in tried))), ("what", _operators(tried)),
            ("number", _signed(sum(one["after_bytes"] - one["before_bytes"] for one in tried), " B")),
            ("number", f"{sum(one['seconds'] for one in tried):.2f} s"),
            ("what", ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))),
        ])  # fmt: skip
    head = [("category", ""), ("passes", "number"), ("nodes", "number"), ("by operator", ""), ("constants", "number"),
            ("time", "number"), ("tries", "")]  # fmt: skip
    return _table(head, rows, "All tries of a category together.")


def by_pass(passes: Sequence[Row]) -> Markup:
    most = _sum(passes[0]["before"])
    rows = [
        [
            ("number", str(one["round"])), ("name", element("code", one["name"])), ("", one["category"]),
            ("number", _change(_sum(one["before"]), _sum(one["after"]))),
            ("", _bar(_sum(one["before"]), _sum(one["after"]), most)),
            ("number", f"{_change(one['before_bytes'], one['after_bytes'])} B"),
            ("number", f"{one['seconds']:.2f} s"), ("", _verdict(one["verdict"])),
            ("what", join(*(element("div", line) for line in _says(one)))),
        ]
        for one in passes if one["verdict"] != _IDLE
    ]  # fmt: skip
    if not rows:
        return element("p", "No pass changed anything.")
    head = [("round", "number"), ("pass", ""), ("category", ""), ("nodes", "number"), ("", ""), ("constants", "number"),
            ("time", "number"), ("verdict", ""), ("what changed, or why it did not", "")]  # fmt: skip
    return _table(head, rows, "In the order in which they ran.")


def _says(one: Row) -> list[str]:
    return [line for line in (_operators([one]), one["reason"], *_notes(one)) if line]


def _notes(one: Row) -> Sequence[str]:
    return tuple(one.get("notes", ()))


def idle(passes: Sequence[Row]) -> Markup:
    """Tries that found nothing to do."""
    rows = [
        [("number", str(one["round"])), ("name", element("code", one["name"])), ("", one["category"]),
         ("number", f"{one['seconds']:.2f} s"), ("what", "; ".join(_notes(one)))]
        for one in passes if one["verdict"] == _IDLE
    ]  # fmt: skip
    if not rows:
        return Markup("")
    head = [("round", "number"), ("pass", ""), ("category", ""), ("time", "number"), ("notes", "")]
    return element(
        "details", element("summary", f"nothing to do in {count(len(rows), 'try', 'tries')}"), _table(head, rows, "")
    )


def undone(passes: Sequence[Row]) -> Markup:
    """Each pass that was undone, once for each reason."""
    found = dict.fromkeys((one["name"], one["reason"]) for one in passes if one["verdict"] == "undone")
    if not found:
        return element("p", "Nothing: every result that came was kept.")
    rows = [element("li", element("code", name), ": ", reason) for name, reason in found]
    says = "These results were not what came in, so the model went on without them."
    return join(element("p", says), element("ul", *rows))


def compared(evidence: Sequence[Row]) -> Markup:
    if not evidence:
        return element("p", "Nothing was compared.")
    return join(*(_finding(one) for one in evidence))


def _finding(one: Row) -> Markup:
    verdict = _verdict("passed" if one["passed"] else "not proven")
    where = ", ".join(f"{key} {value}" for key, value in sorted(dict(one.get("where") or {}).items()) if value)
    facts = [element("p", element("strong", str(one["check"])), ": ", verdict, "; reference: ", str(one["reference"]),
                     f"; {where}" if where else "")]  # fmt: skip
    if one.get("note"):
        facts.append(element("p", str(one["note"]), class_="sub"))
    if one.get("tensors"):
        rows = [
            [("what", element("code", tensor["name"])), ("number", f"{tensor['normalized_error']:.3g}"),
             ("number", f"{tensor['tolerance']:.3g}"),
             ("number", f"{tensor['snr_db']:.1f} dB" if "snr_db" in tensor else "equal"),
             ("number", f"{tensor['cosine']:.6f}"), ("", _verdict("passed" if tensor["passed"] else "differs"))]
            for tensor in one["tensors"]
        ]  # fmt: skip
        head = [("output", ""), ("normalised error", "number"), ("allowed", "number"), ("signal to noise", "number"),
                ("cosine", "number"), ("", "")]  # fmt: skip
        facts.append(_table(head, rows, "Per output the worst of all inputs; the error is max |a - b| / max |before|."))
    tools = ", ".join(f"{name} {version}" for name, version in sorted(dict(one.get("tools") or {}).items()))
    more = [element("p", f"with {tools}", class_="sub")] if tools else []
    samples = [element("li", element("code", digest)) for digest in one.get("samples", ())]
    if samples:
        more.append(
            element(
                "details",
                element("summary", f"{count(len(samples), 'set')} of inputs, by digest"),
                element("ul", *samples),
            )
        )
    return element("div", *facts, *more)


# Parts ------------------------------------------------------------------------------------------------------------
def _table(head: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]], caption: str) -> Markup:
    titles = element("tr", *(element("th", title, class_=kind or None, scope="col") for title, kind in head))
    body = [element("tr", *(element("td", value, class_=kind or None) for kind, value in row)) for row in rows]
    above = element("caption", caption) if caption else Markup("")
    table = element("table", above, element("thead", titles), element("tbody", *body))
    return element("div", table, class_="wide")


def _verdict(verdict: str) -> Markup:
    kind = {"kept": "good", "passed": "good", "undone": "bad", "differs": "bad", "not proven": "bad"}.get(verdict)
    return element("span", verdict, class_=kind)


def _swatch(operator: str) -> Markup:
    domain, _, name = operator.rpartition(".")
    box = element("rect", x=1, y=1, width=10, height=10, rx=2, class_=f"swatch k-{kind_of(name, domain).name}")
    return element("svg", box, width=12, height=12, aria_hidden="true")


def _bar(before: int, after: int, most: int) -> Markup:
    """What there was, and in front of it what there is."""
    parts = []
    for value, y, height, kind in ((before, 0, 12, "bar"), (after, 3, 6, "bar-now")):
        width = max(round(value / max(most, 1) * _BAR_PX, 1), min(value, 1))
        parts.append(element("rect", y=y, width=width, height=height, class_=kind))
    return element("svg", *parts, width=_BAR_PX, height=12, role="img", aria_label=f"{before} to {after}")


def _operators(rows: Iterable[Row]) -> str:
    """The change by operator, the largest first."""
    change = Counter[str]()
    for one in rows:
        change.update(one["after"])
        change.subtract(one["before"])
    changed = sorted(
        ((name, count) for name, count in change.items() if count), key=lambda item: (-abs(item[1]), item[0])
    )
    return ", ".join(f"{name} {_signed(count)}" for name, count in changed)


def _sum(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _nodes(one: Row) -> int:
    return _sum(one["after"]) - _sum(one["before"])


def _change(before: int, after: int) -> str:
    return f"{before:,} → {after:,}"


def _signed(value: int, unit: str = "") -> str:
    return f"{'+' if value > 0 else _MINUS}{abs(value):,}{unit}" if value else "0"


def _percent(before: int, after: int) -> str:
    if before == after or not before:
        return "as before"
    change = (after - before) / before * 100
    return f"{'+' if change > 0 else _MINUS}{abs(change):.1f} %"


def count(number: int, one: str, several: str = "") -> str:
    """`1 output`, `3 outputs`."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
