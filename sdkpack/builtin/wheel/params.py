"""What a recipe's `[release.wheel]` may say."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["WheelParams"]

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_COMMAND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelParams:
    """Settings of the wheel exporter."""

    name: str = ""
    """The distribution's name, as in `pip install acme-ocr`; the bundle's where empty."""
    command: str = ""
    """The console command; the distribution's name where empty."""
    pipeline: str = ""
    """What the command runs; may be left out where the bundle has one pipeline."""
    show: str = ""
    """What the command prints line by line, as `lines.text`: an output, then fields of its items; JSON where empty."""
    side_by_side: bool = False
    """Puts the version into the names of distribution, package and command, so that several versions of one product
    live in one environment."""
    wheelhouse: bool = False
    """Also collects every wheel that installing needs, for customers without a network."""
    author: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} is no distribution name (letters, digits, '.', '_', '-')")
        if self.command and not _COMMAND.fullmatch(self.command):
            raise ValueError(f"command {self.command!r} is no command name (letters, digits, '.', '_', '-')")
        if self.name and keyword.iskeyword(self.name):
            raise ValueError(f"name {self.name!r} is a Python keyword")
