"""The README's table of passes: `python -m sdkpack_optimize.table plugins/optimize/README.md` writes it."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

from sdkpack.plugin import OptimizerInfo
from sdkpack_optimize.plugin import sdkpack_optimizers

__all__ = ["pass_table", "with_table"]

_BEGIN: Final = "<!-- passes -->\n"
_END: Final = "<!-- end of passes -->\n"


def pass_table() -> str:
    """One row a pass, in the order in which they run."""
    rows = [
        "| pass | category | level | large models | settings | what it does |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*rows, *map(_row, sdkpack_optimizers())]) + "\n"


def with_table(page: str) -> str:
    """The page with the table of now."""
    before, rest = page.split(_BEGIN)
    return f"{before}{_BEGIN}{pass_table()}{_END}{rest.split(_END)[1]}"


def _row(info: OptimizerInfo) -> str:
    settings = ", ".join(f"`{field.name}`" for field in fields(info.params)) if info.params else ""
    large = "yes" if "large" in info.capabilities else ""
    return f"| `{info.name}` | {info.category} | {info.level} | {large} | {settings} | {info.summary} |"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
