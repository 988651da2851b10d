"""What torch raises, as what sdkpack tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pickle import UnpicklingError  # noqa: TID251 - what torch raises where it refuses to unpickle
from typing import Final

import torch

from sdkpack.errors import ModelError, SdkpackError

__all__ = ["ANY_FAULT", "brief", "listed", "telling"]

ANY_FAULT: Final = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, NameError, OSError,
    RuntimeError, SyntaxError, TypeError, UnicodeError, UnpicklingError, ValueError, torch.jit.Error,
)  # fmt: skip
"""torch has no exceptions of its own for damaged files and wrong models: it fails where it stumbles. MemoryError is not
among them: the host tells a limit that was met."""

_MAX_SHOWN: Final = 12
_MAX_TEXT: Final = 600
_ADVICE: Final = ("For more information", "Set TORCH", "User Stack", "from user code", "The above exception")


@contextmanager
def telling(what: str, *, hint: str = "") -> Iterator[None]:
    """Turns torch's exceptions into a `ModelError` that says `what` failed; the log has the whole of it."""
    try:
        yield
    except SdkpackError:
        raise
    except ANY_FAULT as error:
        raise ModelError(f"{what}: {brief(error)}", hint=hint) from error


def brief(error: BaseException) -> str:
    """The first sentences of an exception, on one line, without torch's advice about its own logs."""
    text = str(error) or type(error).__name__
    if "Traceback of TorchScript" in text:
        # The exception itself stands behind all of the script's lines.
        text = text.strip().splitlines()[-1]
    kept = []
    for raw in text.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", raw).strip()
        if line.startswith(_ADVICE):
            break
        if line:
            kept.append(line)
    joined = " ".join(kept) or type(error).__name__
    return joined if len(joined) <= _MAX_TEXT else joined[:_MAX_TEXT] + " ..."


def listed(items: Sequence[str]) -> str:
    """Names for a message, not more than fit into one."""
    more = f" and {len(items) - _MAX_SHOWN} more" if len(items) > _MAX_SHOWN else ""
    return ", ".join(items[:_MAX_SHOWN]) + more
