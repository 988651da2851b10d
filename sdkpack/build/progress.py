"""What a build tells while it works."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NullReporter", "Reporter"]


class Reporter(Protocol):
    """Gets told how a build goes. Called from several threads, and quickly left: it must not block."""

    def planned(self, steps: int) -> None:
        """This many more steps are to come."""

    def started(self, step: str) -> None:
        """A step begins to work."""

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        """A step is at `fraction` in [0, 1], or nobody knows how far."""

    def finished(self, step: str, seconds: float) -> None: ...

    def cached(self, step: str) -> None:
        """The store had the step's result."""

    def warned(self, text: str) -> None:
        """Something that the author should know and that does not stop the build."""

    def wrote(self, done_bytes: int, total_bytes: int) -> None:
        """The bundle is written up to here."""


class NullReporter:
    """Tells nobody."""

    def planned(self, steps: int) -> None: ...

    def started(self, step: str) -> None: ...

    def progressed(self, step: str, fraction: float | None, text: str) -> None: ...

    def finished(self, step: str, seconds: float) -> None: ...

    def cached(self, step: str) -> None: ...

    def warned(self, text: str) -> None: ...

    def wrote(self, done_bytes: int, total_bytes: int) -> None: ...
