"""The README's table of layers: `python -m sdkpack_caffe.table plugins/caffe/README.md` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from sdkpack_caffe.layers import rules

__all__ = ["layer_table", "with_table"]

_BEGIN: Final = "<!-- layers -->\n"
_END: Final = "<!-- end of layers -->\n"


def layer_table() -> str:
    """One row a layer: its type, and the first paragraph of its definition."""
    rows = ["| layer | what it computes |", "| --- | --- |"]
    for name, rule in sorted(rules().items(), key=lambda pair: pair[0].lower()):
        text = re.sub(r"\s+", " ", (rule.__doc__ or "").strip().split("\n\n")[0]).rstrip(".")
        rows.append(f"| `{name}` | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """The page with the table of now."""
    before, rest = page.split(_BEGIN)
    return f"{before}{_BEGIN}{layer_table()}{_END}{rest.split(_END)[1]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
