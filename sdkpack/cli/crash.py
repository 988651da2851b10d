"""Keeps what is needed to find a bug, without secrets."""

from __future__ import annotations

import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_crash_log"]


def write_crash_log(error: Exception, arguments: Sequence[str]) -> Path | None:
    """Writes a log that can be pasted into a report; None where no folder takes it.

    Holds the stack by file and line, without the values of variables: those may be keys.
    """
    stack = traceback.TracebackException.from_exception(error, capture_locals=False)
    text = "\n".join(
        [
            f"python {platform.python_version()} on {platform.platform()}",
            f"arguments: {' '.join(arguments)}",
            "",
            "".join(stack.format()),
        ]
    )
    try:
        handle, name = tempfile.mkstemp(prefix="sdkpack-crash-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)
