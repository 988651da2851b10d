"""What a build step is given beside its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # Every command and every job loads this module; these two cost more than the rest of the API.
    import subprocess
    from logging import Logger, LoggerAdapter

__all__ = ["StepContext"]


class StepContext(Protocol):
    """The surroundings of one build step."""

    @property
    def work(self) -> Path:
        """An empty folder of mode 0700, the only place to write to; removed after the step."""
        ...

    @property
    def log(self) -> Logger | LoggerAdapter[Logger]: ...

    @property
    def seed(self) -> int:
        """For everything random in the step."""
        ...

    def progress(self, fraction: float | None, text: str = "") -> None:
        """Tells how far the step is: `fraction` in [0, 1], or None where nobody knows.

        Raises:
            sdkpack.errors.InterruptedRunError: the user wants to stop; let it pass.
        """
        ...

    def run(
        self, argv: Sequence[str], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[Any]:
        """Runs a tool in the work folder, output into the log; on timeout or cancel its process group is ended.

        Raises:
            sdkpack.errors.StepError: the tool failed, crashed or took too long.
        """
        ...
