"""The README's tables of layers and operators: `python -m sdkpack_caffe.table plugins/caffe/README.md` writes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sdkpack_caffe.layers import rules
from sdkpack_caffe.writer.operators import node_rules

__all__ = ["layer_table", "operator_table", "with_table"]

_JOINED: Final = "caffe."
"""What names of operators begin with that stand for several of ONNX's."""


def layer_table() -> str:
    """One row a layer that is read: its type, and the first paragraph of its definition."""
    return _table("layer", "what it computes", rules())


def operator_table() -> str:
    """One row an operator that can be written: its name, and the layers that it becomes."""
    return _table("operator", "layers", {name: rule for name, rule in node_rules().items() if _JOINED not in name})


def _table(left: str, right: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {left} | {right} |", "| --- | --- |"]
    for name, rule in sorted(rows.items(), key=lambda pair: pair[0].lower()):
        text = re.sub(r"\s+", " ", (rule.__doc__ or "").strip().split("\n\n")[0]).rstrip(".")
        lines.append(f"| `{name}` | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the tables of now."""
    for what, table in (("layers", layer_table()), ("operators", operator_table())):
        before, rest = page.split(f"<!-- {what} -->\n")
        end = f"<!-- end of {what} -->\n"
        page = f"{before}<!-- {what} -->\n{table}{end}{rest.split(end)[1]}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
