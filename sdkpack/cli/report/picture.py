"""The graphs before and after, side by side, as SVG; page.js adds zooming, finding and following."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sdkpack.cli.report.kinds import KINDS, TERMINAL, Kind
from sdkpack.cli.report.layout import Drawing, LayoutError, Point, lay_out
from sdkpack.cli.report.markup import Markup, element, join
from sdkpack.cli.report.sheets import Box, Sheet, sheets
from sdkpack.errors import ModelError

__all__ = ["picture"]

_ASPECT: Final = 0.95
"""Of one of two panes on a wide screen: width by height."""
_HEIGHT: Final = 24
_DETAIL_HEIGHT: Final = 38
_LETTER: Final = 6.8
"""Width of an average letter of a label."""
_CORNER: Final = 5.0
_MARGIN: Final = 12
_MOST_BOXES: Final = 5000
"""On one page, both models together; the smaller graphs inside a model may stay undrawn."""


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    """`before` or `after`."""
    sheets: dict[str, Sheet]


def picture(before: bytes, after: bytes) -> Markup:
    """The part of the page with both graphs; a sentence instead where they cannot be drawn.

    Args:
        before: the ONNX model, with or without its weights.
        after: the same, optimised.
    """
    try:
        sides = [_Side(name, {one.key: one for one in sheets(model)})
                 for name, model in (("before", before), ("after", after))]  # fmt: skip
        drawn = _drawn(sides)
    except (LayoutError, ModelError) as error:
        return element("p", str(error), class_="none")
    shown = [key for key in dict.fromkeys(key for side in sides for key in side.sheets) if _any(drawn, key)]
    kinds = {box.kind for side in sides for key in shown for box in _boxes(side, key)}
    return join(
        _controls(sides, shown),
        _legend(kinds),
        element("div", *(_pane(side, sides[1 - place], shown, drawn) for place, side in enumerate(sides)), class_="panes"),
        element("pre", "Point at a node to read what it is.", id="says", aria_live="polite"),
        _left_out(sides, shown),
    )  # fmt: skip


# What is drawn ----------------------------------------------------------------------------------------------------
_Drawn = dict[tuple[str, str], Drawing | str]
"""By side and key; a sentence where there is no drawing."""


def _drawn(sides: Sequence[_Side]) -> _Drawn:
    """
    Raises:
        LayoutError: not even the models' own graphs can be drawn.
    """
    found: _Drawn = {}
    room = _MOST_BOXES
    for key in dict.fromkeys(key for side in sides for key in side.sheets):
        both = [(side, side.sheets[key]) for side in sides if key in side.sheets]
        room -= sum(len(sheet.boxes) for _, sheet in both)
        if key and room < 0:
            continue
        for side, sheet in both:
            try:
                found[side.name, key] = lay_out([_size(box) for box in sheet.boxes], sheet.edges, aspect=_ASPECT)
            except LayoutError as error:
                found[side.name, key] = str(error)
    if not any(isinstance(one, Drawing) for one in found.values()):
        raise LayoutError(next(str(one) for one in found.values()))
    return found


def _any(drawn: _Drawn, key: str) -> bool:
    return any((side, key) in drawn for side in ("before", "after"))


def _boxes(side: _Side, key: str) -> tuple[Box, ...]:
    return side.sheets[key].boxes if key in side.sheets else ()


def _size(box: Box) -> Point:
    letters = max(len(box.label), len(box.detail) * 0.85)
    return max(36.0, round(letters * _LETTER + 16)), _DETAIL_HEIGHT if box.detail else _HEIGHT


# What stands around -----------------------------------------------------------------------------------------------
def _controls(sides: Sequence[_Side], shown: Sequence[str]) -> Markup:
    def option(place: int, key: str) -> Markup:
        sheet = next(side.sheets[key] for side in sides if key in side.sheets)
        counts = [str(side.sheets[key].node_count) if key in side.sheets else "none" for side in sides]
        return element("option", f"{sheet.title}: {' to '.join(counts)} nodes", value=place)

    choice = element(
        "label", "Graph ", element("select", *(option(*one) for one in enumerate(shown)), id="sheet")
    ) if len(shown) > 1 else ""  # fmt: skip
    find = element("label", "Find ", element("input", id="find", type="search", placeholder="operator, name or tensor"))
    hint = "Drag to move; click, then turn the wheel, or use + - 0 and the arrow keys, to zoom. Click a node to see it on the other side."  # noqa: E501
    return element("div", choice, find, element("span", hint, class_="hint"), class_="controls", hidden=True)


def _legend(kinds: set[Kind]) -> Markup:
    def swatch(kind: Kind, label: str) -> Markup:
        box = element("rect", x=1, y=1, width=20, height=12, rx=3, class_=f"k-{kind.name}")
        return element("li", element("svg", box, width=22, height=14, aria_hidden="true"), label, data_kind=kind.name)

    def outline(name: str, label: str) -> Markup:
        box = element("rect", x=2, y=2, width=18, height=10, rx=3, class_=f"k-other {name}")
        return element("li", element("svg", box, width=22, height=14, aria_hidden="true"), label, data_kind=name)

    rows = [swatch(kind, kind.title) for kind in (*KINDS, TERMINAL) if kind in kinds]
    rows += [outline("gone", "gone or changed, on the left"), outline("new", "new or changed, on the right")]
    return element("ul", *rows, class_="legend", aria_label="Colours and outlines of the nodes")


def _pane(side: _Side, other: _Side, shown: Sequence[str], drawn: _Drawn) -> Markup:
    title = "Before" if side.name == "before" else "After"
    buttons = [element("button", sign, type="button", data_do=do, aria_label=says, hidden=True)
               for sign, do, says in (("+", "in", "zoom in"), ("-", "out", "zoom out"), ("fit", "fit", "show all"))]  # fmt: skip
    graphs = [_sheet(key, side, other, shown, drawn) for key in shown]
    head = element("div", element("h3", title), *buttons, class_="head")
    return element("section", head, *graphs, class_="pane", data_side=side.name)


def _left_out(sides: Sequence[_Side], shown: Sequence[str]) -> Markup:
    constants = [sum(sheet.constant_count for sheet in side.sheets.values()) for side in sides]
    says = []
    if any(constants):
        says.append(f"Constant nodes are not drawn ({constants[0]} before, {constants[1]} after); what reads them says so.")
    hidden = len({key for side in sides for key in side.sheets}) - len(shown)
    if hidden:
        says.append(f"{hidden} more subgraphs are not drawn.")
    return element("p", " ".join(says), class_="hint") if says else Markup("")


# One graph --------------------------------------------------------------------------------------------------------
def _sheet(key: str, side: _Side, other: _Side, shown: Sequence[str], drawn: _Drawn) -> Markup:
    facts = {"class_": "sheet", "data_sheet": shown.index(key), "hidden": key != shown[0]}
    drawing = drawn.get((side.name, key), f"The model {side.name} the optimisation has no such graph.")
    if isinstance(drawing, str):
        return element("div", element("p", drawing, class_="none"), **facts)
    sheet = side.sheets[key]
    twins = {name: number for number, box in enumerate(_boxes(other, key)) for name in box.names}
    nodes = []
    for number, (box, centre) in enumerate(zip(sheet.boxes, drawing.centres, strict=True)):
        twin = next((twins[name] for name in sorted(box.names) if name in twins), None)
        lost = "" if twin is not None else "gone" if side.name == "before" else "new"
        opens = " ".join(str(shown.index(inner)) for inner in box.opens if inner in shown)
        nodes.append(_node(box, centre, lost, data_n=number, data_twin=twin, data_opens=opens or None))
    lines = [
        element("path", d=_path(line), data_a=source, data_b=target, class_="far" if number in drawing.straight else None)
        for number, ((source, target), line) in enumerate(zip(sheet.edges, drawing.lines, strict=True))
    ]  # fmt: skip
    view = f"{-_MARGIN} {-_MARGIN} {drawing.width + 2 * _MARGIN:.0f} {drawing.height + 2 * _MARGIN:.0f}"
    label = f"{sheet.title} {side.name} the optimisation: {sheet.node_count} nodes"
    graph = element(
        "svg", element("g", *lines, class_="lines"), *nodes, viewBox=view, role="img", aria_label=label, tabindex=0,
        preserveAspectRatio="xMidYMin meet",
    )  # fmt: skip
    return element("div", graph, **facts)


def _node(box: Box, centre: Point, lost: str, **facts: str | int | None) -> Markup:
    width, height = _size(box)
    shape = element("rect", x=_digits(-width / 2), y=_digits(-height / 2), width=_digits(width), height=_digits(height),
                    rx=11 if box.kind is TERMINAL else 5)  # fmt: skip
    words = [element("text", box.label, y=-4 if box.detail else 4)]
    words += [element("text", box.detail, y=11, class_="detail")] if box.detail else []
    return element(
        "g", element("title", box.says), shape, *words, class_=f"n k-{box.kind.name} {lost}".strip(),
        transform=f"translate({_digits(centre[0])} {_digits(centre[1])})", **facts,
    )  # fmt: skip


def _path(line: Sequence[Point]) -> str:
    """Along the corners, each of them rounded."""
    words = [f"M{_digits(line[0][0])} {_digits(line[0][1])}"]
    for before, corner, after in zip(line, line[1:], line[2:], strict=False):
        (near_x, near_y), (far_x, far_y) = _towards(corner, before), _towards(corner, after)
        words.append(f"L{_digits(near_x)} {_digits(near_y)}Q{_digits(corner[0])} {_digits(corner[1])}"
                     f" {_digits(far_x)} {_digits(far_y)}")  # fmt: skip
    words.append(f"L{_digits(line[-1][0])} {_digits(line[-1][1])}")
    return "".join(words)


def _towards(corner: Point, other: Point) -> Point:
    """The point beside `corner` where its curve begins."""
    x, y = other[0] - corner[0], other[1] - corner[1]
    length = (x * x + y * y) ** 0.5
    part = min(_CORNER, length / 2) / length if length else 0.0
    return corner[0] + x * part, corner[1] + y * part


def _digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
