"""How wide each text line becomes, and to what it is padded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LinePlan", "plan_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    width_px: int
    """Of the resized line."""
    padded_px: int
    """Of its tensor."""


def plan_lines(
    sizes: Sequence[tuple[int, int]], *, height_px: int, group: int, min_width_px: int, max_width_px: int
) -> tuple[LinePlan, ...]:
    """Plans every line's width, in the order of `sizes` (width, height).

    Lines are taken by aspect, narrowest first (ties in list order), `group` at a time. A group is as wide as its
    widest line, cut to whole pixels; a line is as wide as its aspect says, rounded up, at most as wide as its group.
    """
    aspects = [width / height for width, height in sizes]
    order = sorted(range(len(sizes)), key=aspects.__getitem__)
    plans: dict[int, LinePlan] = {}
    for start in range(0, len(order), group):
        members = order[start : start + group]
        widest = int(height_px * max(aspects[member] for member in members))
        padded = min(max(min_width_px, widest), max_width_px)
        for member in members:
            width = min(math.ceil(height_px * aspects[member]), padded)
            plans[member] = LinePlan(width_px=width, padded_px=padded)
    return tuple(plans[index] for index in range(len(sizes)))
