"""The graphs before and after, side by side, as SVG; page.js adds zooming, finding and following."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sdkpack.cli.report.kinds import KINDS, TERMINAL, Kind
from sdkpack.cli.report.layout import Drawing, LayoutError, Point, lay_out
from sdkpack.cli.report.markup import Markup, element, join
from sdkpack.cli.report.pairs import Pair, pair_up
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
_RING: Final = 3.5
_MARGIN: Final = 12
_LEAST: Final = 480
"""A graph of three nodes is not blown up to fill its pane."""
_MOST_BOXES: Final = 5000
"""On one page, both models together; the smaller graphs inside a model may stay undrawn."""


_SIDES: Final = ("before", "after")

_Drawn = tuple[Pair, tuple[Drawing | str, Drawing | str]]
"""A graph with a drawing of each side; a sentence where there is none."""


_SHEET_COSTS: Final = 10
"""In boxes: an empty graph takes room on the page too."""


def picture(before: bytes, after: bytes) -> Markup:
    """The part of the page with both graphs; a sentence instead where they cannot be drawn.

    Args:
        before: the ONNX model; its weights may be declared only.
        after: the same, optimised.
    """
    try:
        pairs = pair_up(sheets(before), sheets(after))
        drawn = _drawn(pairs)
    except (LayoutError, ModelError) as error:
        return element("p", str(error), class_="none")
    places = {(side, sheet.key): place for place, (pair, _) in enumerate(drawn)
              for side, sheet in zip(_SIDES, pair.sheets, strict=True) if sheet}  # fmt: skip
    kinds = {box.kind for pair, _ in drawn for sheet in pair.sheets if sheet for box in sheet.boxes}
    return join(
        _controls([pair for pair, _ in drawn]),
        _legend(kinds),
        element("div", *(_pane(side, drawn, places) for side in (0, 1)), class_="panes"),
        element("pre", "Point at a node to read what it is.", id="says", aria_live="polite"),
        _left_out(pairs, len(drawn)),
    )


def _drawn(pairs: Sequence[Pair]) -> list[_Drawn]:
    """As many as a page has room for, the models' own graphs at any rate.

    Raises:
        LayoutError: none of them can be drawn.
    """
    found: list[_Drawn] = []
    room = _MOST_BOXES
    for place, pair in enumerate(pairs):
        room -= sum(len(sheet.boxes) for sheet in pair.sheets if sheet) + _SHEET_COSTS
        if room >= 0 or place == 0:
            found.append((pair, (_drawing(pair.before, "before"), _drawing(pair.after, "after"))))
    said = [one for _, both in found for one in both]
    if all(isinstance(one, str) for one in said):
        raise LayoutError(str(said[0]))
    return found


def _drawing(sheet: Sheet | None, side: str) -> Drawing | str:
    if sheet is None:
        return f"There is no such graph {side} the optimisation."
    try:
        return lay_out([_size(box) for box in sheet.boxes], sheet.edges, aspect=_ASPECT)
    except LayoutError as error:
        return str(error)


def _size(box: Box) -> Point:
    letters = max(len(box.label), len(box.detail) * 0.85)
    return max(36.0, round(letters * _LETTER + 16)), _DETAIL_HEIGHT if box.detail else _HEIGHT


# What stands around -----------------------------------------------------------------------------------------------
def _controls(pairs: Sequence[Pair]) -> Markup:
    def option(place: int, pair: Pair) -> Markup:
        title = next(sheet.title for sheet in pair.sheets if sheet)
        counts = [str(sheet.node_count) if sheet else "none" for sheet in pair.sheets]
        return element("option", f"{title}: {' to '.join(counts)} nodes", value=place)

    select = element("select", *(option(*one) for one in enumerate(pairs)), id="sheet")
    choice = element("label", "Graph ", select) if len(pairs) > 1 else ""
    find = element("label", "Find ", element("input", id="find", type="search", placeholder="operator, name, tensor"))
    hint = (
        "Drag to move. Click, then turn the wheel or use + - 0 and the arrow keys to zoom. "
        "Click a node to see it on the other side."
    )
    return element("div", choice, find, element("span", hint, class_="hint"), class_="controls", hidden=True)


def _legend(kinds: set[Kind]) -> Markup:
    def entry(label: str, kind: str = "", outline: str = "") -> Markup:
        box = element("rect", x=2, y=2, width=18, height=10, rx=3, class_="ring" if outline else f"k-{kind}")
        swatch = element("svg", element("g", box, class_=outline or None), width=22, height=14, aria_hidden="true")
        return element("li", swatch, label, data_kind=outline or f"k-{kind}")

    rows = [entry(kind.title, kind.name) for kind in (*KINDS, TERMINAL) if kind in kinds]
    rows += [
        entry("gone or changed, on the left", outline="gone"),
        entry("new or changed, on the right", outline="new"),
    ]
    return element("ul", *rows, class_="legend", aria_label="colours and outlines of the nodes")


def _pane(side: int, drawn: Sequence[_Drawn], places: Mapping[tuple[str, str], int]) -> Markup:
    does = (("+", "in", "zoom in"), ("-", "out", "zoom out"), ("fit", "fit", "show all"))
    buttons = [
        element("button", sign, type="button", data_do=do, aria_label=says, hidden=True) for sign, do, says in does
    ]
    graphs = []
    for place, (pair, drawings) in enumerate(drawn):
        sheet, drawing = pair.sheets[side], drawings[side]
        if isinstance(drawing, str):
            inner = element("p", drawing, class_="none")
        else:
            assert sheet is not None  # it was drawn
            inner = _graph(sheet, drawing, side, pair, places)
        graphs.append(element("div", inner, class_="sheet", data_sheet=place, hidden=place > 0))
    head = element("div", element("h3", _SIDES[side].capitalize()), *buttons, class_="head")
    return element("section", head, *graphs, class_="pane", data_side=_SIDES[side])


def _left_out(pairs: Sequence[Pair], drawn: int) -> Markup:
    sides = zip(*(pair.sheets for pair in pairs), strict=True)
    counts = [sum(sheet.constant_count for sheet in side if sheet) for side in sides]
    says = []
    if any(counts):
        says.append(f"Constant nodes are not drawn ({counts[0]} before, {counts[1]} after); what reads them says so.")
    if drawn < len(pairs):
        says.append(f"{len(pairs) - drawn} more subgraphs are not drawn.")
    return element("p", " ".join(says), class_="hint") if says else Markup("")


# One graph --------------------------------------------------------------------------------------------------------
def _graph(sheet: Sheet, drawing: Drawing, side: int, pair: Pair, places: Mapping[tuple[str, str], int]) -> Markup:
    known = pair.twins if side == 0 else {twin: place for place, twin in pair.twins.items()}
    opposite = pair.sheets[1 - side]
    other = opposite.boxes if opposite else ()
    nodes = []
    for number, (box, centre) in enumerate(zip(sheet.boxes, drawing.centres, strict=True)):
        opens = next((places[_SIDES[side], key] for key in box.opens if (_SIDES[side], key) in places), None)
        twin = other[known[number]] if number in known else None
        lost = "" if twin and twin.form == box.form else ("gone", "new")[side]
        nodes.append(_node(box, centre, lost, data_n=number, data_twin=known.get(number), data_opens=opens))
    lines = []
    for number, (ends, line) in enumerate(zip(sheet.edges, drawing.lines, strict=True)):
        kind = "far" if number in drawing.straight else None
        lines.append(element("path", d=_path(line), data_a=ends[0], data_b=ends[1], class_=kind))
    width, height = max(drawing.width, _LEAST), max(drawing.height, _LEAST / _ASPECT)
    left = (drawing.width - width) / 2 - _MARGIN
    return element(
        "svg", element("g", *lines, class_="lines"), *nodes, role="img", tabindex=0,
        viewBox=f"{left:.0f} {-_MARGIN} {width + 2 * _MARGIN:.0f} {height + 2 * _MARGIN:.0f}",
        aria_label=f"{sheet.title} {_SIDES[side]} the optimisation: {sheet.node_count} nodes",
        preserveAspectRatio="xMidYMin meet",
    )  # fmt: skip


def _node(box: Box, centre: Point, lost: str, **facts: str | int | None) -> Markup:
    width, height = _size(box)
    shape = element("rect", x=_digits(-width / 2), y=_digits(-height / 2), width=_digits(width), height=_digits(height),
                    rx=11 if box.kind is TERMINAL else 5)  # fmt: skip
    words = [element("text", box.label, y=-4 if box.detail else 4)]
    words += [element("text", box.detail, y=11, class_="detail")] if box.detail else []
    ring = _ring(width, height) if lost else ""
    place = f"translate({_digits(centre[0])} {_digits(centre[1])})"
    kind = f"n k-{box.kind.name} {lost}".strip()
    return element("g", element("title", box.says), ring, shape, *words, class_=kind, transform=place, **facts)


def _ring(width: float, height: float) -> Markup:
    """Around a node that is not as it was: set off from it, so that it is seen beside any colour."""
    width, height = width + 2 * _RING, height + 2 * _RING
    return element("rect", x=_digits(-width / 2), y=_digits(-height / 2), width=_digits(width), height=_digits(height),
                   rx=8, class_="ring")  # fmt: skip


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
