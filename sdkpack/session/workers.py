"""Who may call a runner, and when: owner threads, pools of instances, and the gate of a session."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from sdkpack.errors import DeadlineError, UsageError
from sdkpack.pipeline.deadline import Deadline

__all__ = ["Gate", "OwnerThread", "Pool"]

T = TypeVar("T")


class OwnerThread:
    """One thread that does everything for one loaded part: opens it, runs it, closes it.

    For runtimes without `run.concurrent`; many of them also mind *which* thread calls.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sdkpack-{name}")

    def call(self, work: Callable[[], T]) -> T:
        """Runs `work` there and waits for it; its exception is raised here."""
        return self._executor.submit(work).result()

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class Pool(Generic[T]):
    """Hands out each of its items to one caller at a time."""

    def __init__(self, items: Sequence[T], *, what: str) -> None:
        self._what = what
        # Last in, first out: the instance whose memory is still in the caches.
        self._free: queue.LifoQueue[T] = queue.LifoQueue()
        for item in items:
            self._free.put(item)

    @contextmanager
    def one(self, deadline: Deadline | None = None) -> Iterator[T]:
        """Lends an item.

        Raises:
            DeadlineError: none became free in time.
        """
        try:
            item = self._free.get(timeout=None if deadline is None else max(0.0, deadline.at_s - deadline.clock()))
        except queue.Empty:
            limit = f"{deadline.limit_s:g} s " if deadline else ""
            raise DeadlineError(
                f"the deadline of {limit}passed while all instances of {self._what} were busy",
                hint="allow more time, or open the session with more instances",
            ) from None
        try:
            yield item
        finally:
            self._free.put(item)


class Gate:
    """Lets callers into an open session, and waits for them before it is closed."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._inside: dict[int, int] = {}  # thread -> how often
        self._closed = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Holds the session open.

        Raises:
            UsageError: it is closed, or this process was forked from the one that opened it.
        """
        self.check_process()
        thread = threading.get_ident()
        with self._condition:
            self._check_open()
            self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._condition:
                self._inside[thread] -= 1
                if not self._inside[thread]:
                    del self._inside[thread]
                self._condition.notify_all()

    def check_process(self) -> None:
        """Refuses use in a fork."""
        # Before any lock: a fork copies locks in whatever state another thread had them, and threads not at all.
        if os.getpid() != self._pid:
            raise UsageError(
                f"{self._what} was opened in process {self._pid} and cannot be used in a fork of it",
                hint="open it in the new process, or start processes with the 'spawn' method",
            )

    def close(self) -> bool:
        """Shuts out new callers, waits for those inside; True for the one call that closed it.

        Raises:
            UsageError: the caller itself is inside, and would wait for ever.
        """
        if os.getpid() != self._pid:
            return False  # what is loaded belongs to the parent
        with self._condition:
            if self._closed:
                return False
            if threading.get_ident() in self._inside:
                raise UsageError(f"{self._what} cannot be closed from within one of its own runs")
            self._closed = True
            self._condition.wait_for(lambda: not self._inside)
            return True

    @property
    def closed(self) -> bool:
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self._what} is closed")
