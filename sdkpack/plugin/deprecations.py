"""What of the plugin API is to go: it stays for its major, and for twelve months; docs/plugins/compatibility.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["DEPRECATIONS", "Deprecation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """One name, field or word that plugins should no longer use."""

    kind: Literal["name", "field", "word"]
    """A public name of `sdkpack.plugin`, a field of a descriptor, or a capability word."""
    what: str
    """`Cache`, `ConverterInfo.suffixes`, `run.clone`."""
    since: tuple[int, int]
    """The API version that says so."""
    instead: str
    """What to use, for the plugin's author."""

    def __str__(self) -> str:
        return f"{self.what}, deprecated since API {self.since[0]}.{self.since[1]}: {self.instead}"


DEPRECATIONS: Final[tuple[Deprecation, ...]] = ()
"""Nothing of API 1.0 is to go."""
