"""What a build shows on a terminal: one line a finished step, and below them one that moves."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

from sdkpack.cli.console import size_text

__all__ = ["TerminalReporter", "rate_text"]

_REDRAW_S: Final = 0.1
_BAR_WIDTH: Final = 24


class TerminalReporter:
    """Draws on a terminal; used only where somebody watches, so a pipe or a log stays quiet."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = 0.0
        self._drawn = 0.0
        self._steps = 0
        self._done = 0
        self._moving = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._clear()

    def planned(self, steps: int) -> None:
        with self._lock:
            self._steps += steps

    def started(self, step: str) -> None:
        self._move(step)

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        words = f"{step}: {text}" if text else step
        self._move(words if fraction is None else f"{words} {fraction:4.0%}")

    def finished(self, step: str, seconds: float) -> None:
        self._line(f"  done    {step}  {seconds:.1f} s")

    def cached(self, step: str) -> None:
        self._line(f"  stored  {step}")

    def warned(self, text: str) -> None:
        self._line(f"  note    {text}", counts=False)

    def wrote(self, done_bytes: int, total_bytes: int) -> None:
        if not self._writing:
            self._writing = self._clock()
        share = done_bytes / total_bytes if total_bytes else 1.0
        bar = ("#" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, ".")
        self._move(f"[{bar}] {rate_text(done_bytes, total_bytes, self._clock() - self._writing)}")

    def _line(self, text: str, *, counts: bool = True) -> None:
        with self._lock:
            self._done += counts
            self._clear()
            self._stream.write(f"{text}\n")
            self._draw(force=True)

    def _move(self, text: str) -> None:
        with self._lock:
            self._moving = text
            self._draw()

    def _draw(self, *, force: bool = False) -> None:
        now = self._clock()
        if not self._moving or (not force and now - self._drawn < _REDRAW_S):
            return
        self._drawn = now
        count = f"{self._done}/{self._steps} " if self._steps else ""
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{(count + self._moving)[:width]}")
        self._stream.flush()

    def _clear(self) -> None:
        self._stream.write("\r\x1b[K")
        self._stream.flush()


def rate_text(done_bytes: int, total_bytes: int, seconds: float) -> str:
    """`12.0 MiB of 96.0 MiB, 120.0 MiB/s, 1 s left`."""
    text = f"{size_text(done_bytes)} of {size_text(total_bytes)}"
    if seconds <= 0 or done_bytes == 0:
        return text
    rate = done_bytes / seconds
    return f"{text}, {size_text(round(rate))}/s, {max(total_bytes - done_bytes, 0) / rate:.0f} s left"
