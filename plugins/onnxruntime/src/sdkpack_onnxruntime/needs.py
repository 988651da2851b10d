"""What a variant needs of the target, as compiler and runner agree upon it."""

from __future__ import annotations

import operator
import re
from typing import Final

__all__ = ["MINIMUM", "TOKEN", "meets"]

TOKEN: Final = "onnx-split/1"
"""The files of a part: a graph without its weights, the weights, and the table that joins them."""

MINIMUM: Final = (1, 23)
"""The oldest onnxruntime that the runner was tried with."""

_CLAUSE: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,3})\s*", re.ASCII)
_OPERATORS: Final = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def meets(version: str, wanted: str) -> bool:
    """Whether `version` is in the range `wanted`: clauses such as `>=1.23` joined by commas, empty for any.

    Pre-release and build suffixes are ignored. A range that cannot be read is met by nothing.
    """
    have = _numbers(version)
    for clause in filter(None, wanted.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None or not _OPERATORS[match[1]](have, _numbers(match[2])):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version, re.ASCII)
    parts = [int(part) for part in found[0].split(".")] if found else []
    return tuple(([*parts, 0, 0, 0, 0])[:4])
