"""Medians of interleaved runs: whatever else the machine does hits both sides alike."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence

__all__ = ["child_cpu_s", "interleaved", "machine", "show"]


def interleaved(sides: Mapping[str, Callable[[], float]], runs: int) -> dict[str, float]:
    """The median of each side's figure over `runs` rounds, in which every side has one turn."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, measure in sides.items():
            figures[name].append(measure())
    return {name: statistics.median(values) for name, values in figures.items()}


def child_cpu_s(command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """User and system seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def show(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
