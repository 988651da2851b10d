"""Which graph, and which node, of the model before is which of the model after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sdkpack.cli.report.sheets import Sheet

__all__ = ["Pair", "pair_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A graph and what became of it; one of the two may not be there."""

    before: Sheet | None
    after: Sheet | None
    twins: dict[int, int] = field(default_factory=dict)
    """From the places of boxes before to those after."""

    @property
    def sheets(self) -> tuple[Sheet | None, Sheet | None]:
        return self.before, self.after


def pair_up(before: Sequence[Sheet], after: Sequence[Sheet]) -> tuple[Pair, ...]:
    """Every sheet once, the models' own graphs first.

    Args:
        before: the sheets of one model, its own graph first.
        after: of the other.
    """
    left, right = {one.key: one for one in before}, {one.key: one for one in after}
    waiting: list[tuple[str | None, str | None]] = [(before[0].key, after[0].key)]
    # A function is known by its name, wherever it is called.
    waiting += [(key, key) for key in left if key in right and key.startswith("function ")]
    found: list[Pair] = []
    while waiting:
        here, there = waiting.pop(0)
        one, other = left.pop(here or "", None), right.pop(there or "", None)
        if one is None and other is None:
            continue
        twins = _twins(one, other) if one and other else {}
        found.append(Pair(before=one, after=other, twins=twins))
        if one and other:
            waiting += _inner(one, other, twins)
    found += [Pair(before=one, after=None) for one in left.values()]
    return (*found, *(Pair(before=None, after=one) for one in right.values()))


def _twins(one: Sheet, other: Sheet) -> dict[int, int]:
    """By what a node makes first of all: optimisers keep the names of values more often than those of nodes."""
    found: dict[int, int] = {}
    taken: set[int] = set()
    for turn in (0, 1):
        known = {box.names[turn]: place for place, box in enumerate(other.boxes) if box.names[turn]}
        for place, box in enumerate(one.boxes):
            twin = known.get(box.names[turn]) if place not in found else None
            if twin is not None and twin not in taken and box.label == other.boxes[twin].label:
                found[place] = twin
                taken.add(twin)
    return found


def _inner(one: Sheet, other: Sheet, twins: dict[int, int]) -> list[tuple[str | None, str | None]]:
    """Keys of the subgraphs of twins; nodes that lost their names are paired in their order, where as many are left."""
    openers = [place for place, box in enumerate(one.boxes) if box.opens]
    pairs = [(place, twins[place]) for place in openers if place in twins]
    rest = [place for place in openers if place not in twins]
    taken = set(twins.values())
    left = [place for place, box in enumerate(other.boxes) if box.opens and place not in taken]
    if [one.boxes[place].label for place in rest] == [other.boxes[place].label for place in left]:
        pairs += zip(rest, left, strict=True)
    return [keys for place, twin in sorted(pairs)
            for keys in zip(one.boxes[place].opens, other.boxes[twin].opens, strict=False)]  # fmt: skip
