"""The time limit of tools in this process: as far as it can be held there.

Outside of this process a limit ends the tool's process. Inside, nothing ends a call that does not return: a thread
cannot be stopped, and a signal reaches native code when that is done. So a tool is stopped where it asks, in
`context.progress` and `context.run`; where it does not ask, the user is told that it is over its time, and may stop
the whole. A call that returns late has done its work, which is kept.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from sdkpack.errors import StepError
from sdkpack.plugin.context import StepContext

if TYPE_CHECKING:
    import subprocess
    from logging import Logger, LoggerAdapter

__all__ = ["TimedContext", "TimedTool"]

_METHODS: Final = frozenset({"convert", "evaluate", "optimize", "compress", "compile"})


@runtime_checkable
class _Warning(Protocol):
    """A context that can tell the user something at once."""

    def warn(self, text: str) -> None: ...


class TimedTool:
    """A Converter, Optimizer, Compressor or Compiler of this process, each of its calls with a limit."""

    def __init__(self, tool: Any, *, name: str, limit_s: float) -> None:
        self._tool = tool
        self._name = name
        self._limit_s = limit_s

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tool, name)
        return functools.partial(self._call, found) if name in _METHODS else found

    def _call(self, method: Any, request: Any, context: StepContext) -> Any:
        with _watched(context, self._name, self._limit_s):
            return method(request, TimedContext(context, name=self._name, limit_s=self._limit_s))


class TimedContext:
    """A `sdkpack.plugin.StepContext` that ends the step once its time is over."""

    def __init__(self, context: StepContext, *, name: str, limit_s: float) -> None:
        self._context = context
        self._name = name
        self._limit_s = limit_s
        self._until_s = time.monotonic() + limit_s

    @property
    def work(self) -> Path:
        return self._context.work

    @property
    def log(self) -> Logger | LoggerAdapter[Logger]:
        return self._context.log

    @property
    def seed(self) -> int:
        return self._context.seed

    def progress(self, fraction: float | None, text: str = "") -> None:
        """
        Raises:
            StepError: the tool's time is over.
            InterruptedRunError: the user wants to stop.
        """
        self._context.progress(fraction, text)
        self._left_s()

    def run(
        self, argv: Sequence[str], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[Any]:
        """
        Raises:
            StepError: the tool's time is over, or the program failed.
        """
        left = self._left_s()
        limit = left if timeout_s is None else min(timeout_s, left)
        try:
            return self._context.run(argv, timeout_s=limit, env=env)
        except StepError as error:
            if limit == left and time.monotonic() >= self._until_s:
                raise self._over() from error
            raise

    def _left_s(self) -> float:
        left = self._until_s - time.monotonic()
        if left <= 0:
            raise self._over()
        return left

    def _over(self) -> StepError:
        return StepError(
            f"{self._name!r} took longer than {self._limit_s:g} s and was stopped",
            hint="its limit is the time_limit_s of its descriptor; try a smaller model, or an idle machine",
        )


@contextmanager
def _watched(context: StepContext, name: str, limit_s: float) -> Iterator[None]:
    """Tells the user, once, that a call is over its time."""

    def tell() -> None:
        text = f"{name!r} is over its limit of {limit_s:g} s, and cannot be stopped in this process but with all of it"
        if isinstance(context, _Warning):
            context.warn(text)
        else:
            context.log.warning("%s", text)

    timer = threading.Timer(min(limit_s, threading.TIMEOUT_MAX), tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
