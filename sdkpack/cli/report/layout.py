"""Where the boxes of a graph stand and how its lines run: graphlay's layered layout, folded to the form of a pane.

See docs/decisions/0090-the-layout-of-graph-pictures.md for what was held against it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["MISSING", "Drawing", "LayoutError", "lay_out"]

MISSING: Final = "the picture needs the package 'graphlay': pip install 'sdkpack[report]'"

_MOST_BOXES: Final = 2000
_MANY_BOXES: Final = 700
"""From here on fewer crossings are not worth five times the time."""
_MOST_EDGES: Final = 5000
_MOST_STEPS: Final = 8000
"""Layers that all lines pass together. The layout's time grows with them: 8,000 take about a second, 30,000 take 40.
An attention mask that every layer reads has that many by itself; so the longest lines are drawn straight instead."""
_MOST_ENDS: Final = 64
"""Lines that leave or enter one node; the time grows with their cube: 200 take 0.2 seconds, 800 take 9."""
_FOLDS: Final = (24, 6)
"""How often a long graph may be folded: as often as it likes, or less where that comes out too wide."""

Point = tuple[float, float]


class LayoutError(Exception):
    """There is no picture, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Places in units of a pixel at full size; y grows downwards, the least x and y are 0."""

    centres: tuple[Point, ...]
    lines: tuple[tuple[Point, ...], ...]
    """Per edge its corners, from border to border."""
    straight: frozenset[int]
    """Edges that were left out of the layout, and cross whatever stands between their ends."""
    width: float
    height: float


def lay_out(sizes: Sequence[Point], edges: Sequence[tuple[int, int]], *, aspect: float) -> Drawing:
    """The same graph gives the same drawing.

    Args:
        sizes: width and height of each box.
        edges: from box to box, from a lower index to a higher.
        aspect: width of the pane by its height.

    Raises:
        LayoutError: the library is not there or fails, or the graph is too large to be looked at.
    """
    for count, most, what in ((len(sizes), _MOST_BOXES, "nodes"), (len(edges), _MOST_EDGES, "lines")):
        if count > most:
            raise LayoutError(f"not drawn: the graph has {count} {what}, a picture shows at most {most}")
    try:
        import graphlay
    except ImportError:
        raise LayoutError(MISSING) from None
    laid, straight = _eased(len(sizes), edges)
    graph = {
        "nodes": [{"size": {"width": width, "height": height}, "shape": "box"} for width, height in sizes],
        "edges": [{"source": source, "target": target} for source, target in laid],
    }
    try:
        found = graphlay.layout(graph, options=_options(aspect, _FOLDS[0], len(sizes))).raw
        if not 0.5 < _form(found) / aspect < 2:
            other = graphlay.layout(graph, options=_options(aspect, _FOLDS[1], len(sizes))).raw
            found = min(found, other, key=lambda one: abs(math.log(_form(one) / aspect)))
    except graphlay.GraphlayError as error:
        raise LayoutError(f"not drawn: {error}") from None
    return _drawing(found, sizes, edges, straight)


def _options(aspect: float, rows: int, count: int) -> dict[str, Any]:
    return {
        "effort": "balanced" if count <= _MANY_BOXES else "fast",
        "direction": "topbottom",
        "spacing": {"layer_gap": 20, "node_gap": 16, "dummy_gap": 12, "stub": 8, "isolated_gap": 16},
        "routing": {"lane_gap": 6},
        "wrap": {"viewport_aspect": aspect},
        # Moving the ends of lines along a border takes a minute where a node has 400 of them.
        "tuning": {"wrap": {"max_rows": rows, "max_cut_edges": 8}, "routing": {"port_relax_rounds": 0}},
    }  # fmt: skip


def _eased(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], frozenset[int]]:
    """The edges without what the layout takes long for, and which those are."""
    left_out, ends = set[int](), Counter[tuple[str, int]]()
    for place, (source, target) in enumerate(edges):
        ends.update((("from", source), ("to", target)))
        if max(ends["from", source], ends["to", target]) > _MOST_ENDS:
            left_out.add(place)
    layer = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        layer[target] = max(layer[target], layer[source] + 1)
    spans = {place: layer[target] - layer[source] - 1
             for place, (source, target) in enumerate(edges) if place not in left_out}  # fmt: skip
    steps = sum(spans.values())
    for place in sorted(spans, key=lambda place: (-spans[place], place)):
        if steps <= _MOST_STEPS:
            break
        steps -= spans[place]
        left_out.add(place)
    return [edge for place, edge in enumerate(edges) if place not in left_out], frozenset(left_out)


def _form(found: Any) -> float:
    """Width by height."""
    least, most = found["bounds"]["min"], found["bounds"]["max"]
    return float(max(most["x"] - least["x"], 1) / max(most["y"] - least["y"], 1))


def _drawing(found: Any, sizes: Sequence[Point], edges: Sequence[tuple[int, int]], straight: frozenset[int]) -> Drawing:
    centres = [(node["center"]["x"], node["center"]["y"]) for node in found["nodes"]]
    routed = iter(found["edges"])
    lines: list[list[Point]] = []
    for place, (source, target) in enumerate(edges):
        if place in straight:
            (x, y), (to_x, to_y) = centres[source], centres[target]
            lines.append([(x, y + sizes[source][1] / 2), (to_x, to_y - sizes[target][1] / 2)])
        else:
            lines.append([(point["x"], point["y"]) for point in next(routed)["points"]])
    points = [point for line in lines for point in line]
    points += [(x + side * w / 2, y + side * h / 2) for (x, y), (w, h) in zip(centres, sizes, strict=True)
               for side in (-1, 1)]  # fmt: skip
    left, top = min((x for x, _ in points), default=0.0), min((y for _, y in points), default=0.0)
    return Drawing(
        centres=tuple((x - left, y - top) for x, y in centres),
        lines=tuple(tuple((x - left, y - top) for x, y in line) for line in lines),
        straight=straight,
        width=max((x for x, _ in points), default=0.0) - left,
        height=max((y for _, y in points), default=0.0) - top,
    )
