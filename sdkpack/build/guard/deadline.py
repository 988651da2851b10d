"""A call in this process that must not take for ever.

Python has no way to end a thread. An exception can be raised in it, which ends a loop of Python code; a call into
native code that does not come back is left behind, in a thread that ends with the process.
Source: `PyThreadState_SetAsyncExc`, Python/C API, Thread State and the Global Interpreter Lock.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from sdkpack.errors import InternalError, StepError

__all__ = ["within"]

ResultT = TypeVar("ResultT")

_GRACE_S: Final = 5.0


class _TooLongError(BaseException):
    """Raised inside of the call."""


def within(call: Callable[[], ResultT], limit_s: float, *, what: str) -> ResultT:
    """What `call` returns, or raises.

    Raises:
        StepError: it took longer than `limit_s`.
        InternalError: it raised what is no error of sdkpack's.
    """
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="sdkpack-limited", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        _end(thread)
        raise StepError(f"{what} took longer than {limit_s:g} s and was ended")
    if errors:
        raise _told(errors[0], what)
    return results[0]


def _end(thread: threading.Thread) -> None:
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TooLongError))
    thread.join(_GRACE_S)


def _told(error: BaseException, what: str) -> BaseException:
    from sdkpack.errors import SdkpackError

    if isinstance(error, SdkpackError | KeyboardInterrupt | MemoryError):
        return error
    made = InternalError(f"{what} crashed: {type(error).__name__}: {' '.join(str(error).split())[:500]}")
    made.__cause__ = error
    return made
