"""Why a value cannot be used where it is: it does not exist, comes later, or depends on its user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["why_too_early"]


def why_too_early(index: int, value: str, defined_at: Mapping[str, int], uses: Sequence[set[str]]) -> str:
    """What is wrong with step `index` using `value`, which step `defined_at[value]` defines, not before it.

    Args:
        uses: the values that each step uses.
    """
    later = defined_at[value]
    if later == index:
        return f"step {index + 1} feeds itself: it defines {value!r}"
    path = _path(later, index, defined_at, uses)
    if path:
        steps = " -> ".join(str(step + 1) for step in (index, *path))
        return f"a cycle of steps, {steps}: step {index + 1} needs {value!r}, which depends on what it gives"
    return f"step {later + 1} defines {value!r} later: move it before step {index + 1}"


def _path(start: int, goal: int, defined_at: Mapping[str, int], uses: Sequence[set[str]]) -> list[int]:
    """The steps from `start` to `goal`, each using what the next one defines; empty where there is no such way."""
    came_from: dict[int, int] = {start: start}
    waiting = [start]
    while waiting:
        step = waiting.pop()
        if step == goal:
            break
        for value in sorted(uses[step]):
            before = defined_at.get(value)
            if before is not None and before not in came_from:
                came_from[before] = step
                waiting.append(before)
    if goal not in came_from:
        return []
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
