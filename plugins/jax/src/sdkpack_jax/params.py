"""What a recipe may set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["JaxParams"]

_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*:[A-Za-z_][\w.]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class JaxParams:
    """Settings of the converter."""

    function: str
    """`module:function`; the module is the source's name without `.py`."""

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError(f"function is {self.function!r}, expected module:function, as in net:forward")
