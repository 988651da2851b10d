"""A point in time after which a run stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sdkpack.errors import DeadlineError

__all__ = ["Deadline"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """Looked at between steps and between items: a call of a model or operator in progress is not cut short."""

    at_s: float
    """On `clock`'s scale."""
    limit_s: float
    clock: Callable[[], float] = time.monotonic

    @staticmethod
    def after(limit_s: float, *, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """A deadline `limit_s` seconds from now."""
        return Deadline(clock() + limit_s, limit_s, clock)

    def check(self, where: str) -> None:
        """Stops the run when time is up.

        Raises:
            DeadlineError: it is.
        """
        if self.clock() >= self.at_s:
            raise DeadlineError(
                f"the deadline of {self.limit_s:g} s passed before {where}",
                hint="allow more time, or send smaller inputs",
            )
