"""Places of boxes and lines."""

from __future__ import annotations

import pytest

from sdkpack.cli.report.layout import Drawing, LayoutError, lay_out

SIZE = (60.0, 24.0)


def _drawn(count: int, edges: list[tuple[int, int]], aspect: float = 1.0) -> Drawing:
    return lay_out([SIZE] * count, edges, aspect=aspect)


def _apart(drawing: Drawing) -> bool:
    places = sorted(drawing.centres)
    return all(abs(x - to_x) >= SIZE[0] or abs(y - to_y) >= SIZE[1]
               for place, (x, y) in enumerate(places) for to_x, to_y in places[place + 1 :])  # fmt: skip


GRAPHS = {
    "one": (1, []),
    "none": (0, []),
    "alone": (5, []),
    "chain": (9, [(at, at + 1) for at in range(8)]),
    "diamond": (4, [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]),
    "two parts": (6, [(0, 1), (1, 2), (3, 4), (4, 5)]),
    "branches": (200, [(at, at * 2 + side) for at in range(1, 100) for side in (0, 1)]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps_and_everything_is_inside(name: str) -> None:
    count, edges = GRAPHS[name]
    drawing = _drawn(count, edges)
    assert len(drawing.centres) == count
    assert _apart(drawing)
    for x, y in (*drawing.centres, *(point for line in drawing.lines for point in line)):
        assert 0 <= x <= drawing.width
        assert 0 <= y <= drawing.height


@pytest.mark.parametrize("name", GRAPHS)
def test_lines_run_from_border_to_border(name: str) -> None:
    count, edges = GRAPHS[name]
    drawing = _drawn(count, edges)
    for ends, line in zip(edges, drawing.lines, strict=True):
        for place, (x, y) in zip(ends, (line[0], line[-1]), strict=True):
            centre = drawing.centres[place]
            assert abs(x - centre[0]) <= SIZE[0] / 2 + 0.1
            assert abs(y - centre[1]) <= SIZE[1] / 2 + 0.1


def test_the_same_graph_gives_the_same_drawing() -> None:
    assert _drawn(*GRAPHS["branches"]) == _drawn(*GRAPHS["branches"])


def test_a_long_graph_is_folded_to_the_form_of_its_pane() -> None:
    drawing = _drawn(400, [(at, at + 1) for at in range(399)], aspect=1.0)
    assert 0.4 < drawing.width / drawing.height < 2.5


def test_a_value_that_all_layers_read_is_drawn_straight() -> None:
    edges = [(at, at + 1) for at in range(599)] + [(0, at) for at in range(2, 600, 5)]
    drawing = _drawn(600, edges)
    assert 0 < len(drawing.straight) <= 120
    assert all(edges[place][0] == 0 for place in drawing.straight)
    assert all(len(drawing.lines[place]) == 2 for place in drawing.straight)


def test_a_node_with_very_many_readers_is_drawn() -> None:
    drawing = _drawn(1500, [(0, at) for at in range(1, 1500)])
    assert len(drawing.lines) == 1499
    assert len(drawing.straight) == 1499 - 64


@pytest.mark.parametrize(
    ("count", "edges", "said"),
    [(2001, [], "2001 nodes"), (200, [(a, b) for a in range(200) for b in range(a + 1, 200)], "19900 lines")],
)
def test_what_is_too_large_is_not_drawn(count: int, edges: list[tuple[int, int]], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        _drawn(count, edges)
