"""Keys from files and from the environment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sdkpack.errors import KeyFileError, UsageError

__all__ = ["EnvironmentKeys", "FileKeys"]

_MAX_BYTES: Final = 1 << 20
"""Some hundred of the longest keys; a bound because the name may be a mistake for a model."""

_PUBLIC: Final = "sdkpack-public-"


class _LoadOnly:
    """Keys that are handed out, not used in place; the capability words say so, and the core asks for nothing else."""

    def wrap(self, reference: str, content_key: bytes, context: bytes) -> bytes:
        raise UsageError(f"key {reference!r} is read, it wraps nothing in place")

    def unwrap(self, reference: str, wrapped: bytes, context: bytes) -> bytes:
        raise UsageError(f"key {reference!r} is read, it unwraps nothing in place")

    def public_key(self, reference: str) -> tuple[str, bytes]:
        raise UsageError(f"key {reference!r} is read, it signs nothing in place")

    def sign(self, reference: str, message: bytes) -> bytes:
        raise UsageError(f"key {reference!r} is read, it signs nothing in place")


class FileKeys(_LoadOnly):
    """`file:PATH`: the key file at a path. Secret keys that others may read are refused."""

    def load(self, reference: str) -> str:
        """The text of the file.

        Raises:
            KeyFileError: missing, unreadable, too large, no text, or secret and readable by group or others.
        """
        path = Path(reference).expanduser()
        try:
            # Non-blocking: a fifo must not hang the caller. Mode and content come from one open file, so that the
            # file cannot be swapped between the two.
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(fd, "rb") as stream:
                facts = os.fstat(fd)
                if not stat.S_ISREG(facts.st_mode):
                    raise KeyFileError(f"key file {path} is not a plain file")
                content = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise KeyFileError(
                f"cannot read key file {path}: {str(error.strerror).lower()}",
                hint="check the path, or make a key: sdkpack keys new",
            ) from error
        except ValueError as error:  # a NUL in the name
            raise KeyFileError(f"no file can have the name {reference[:60]!r}") from error
        text = _text(content, str(path))
        if os.name == "posix" and facts.st_mode & 0o077 and _is_secret(text):
            mode = stat.S_IMODE(facts.st_mode)
            raise KeyFileError(
                f"key file {path} can be read by others (mode {mode:04o})",
                hint=f"make it yours alone: chmod 600 {path}",
            )
        return text


class EnvironmentKeys(_LoadOnly):
    """`env:NAME`: a variable that holds the text of a key file."""

    def __init__(self, environment: Callable[[], Mapping[str, str]] = lambda: os.environ) -> None:
        self._environment = environment

    def load(self, reference: str) -> str:
        """The text in the variable.

        Raises:
            KeyFileError: it is not set, or empty.
        """
        text = self._environment().get(reference, "")
        if not text.strip():
            raise KeyFileError(
                f"environment variable {reference} is {'empty' if reference in self._environment() else 'not set'}",
                hint=f'put the key file\'s text in it: export {reference}="$(cat KEYFILE)"',
            )
        return text


def _text(content: bytes, name: str) -> str:
    if len(content) > _MAX_BYTES:
        raise KeyFileError(f"key file {name} has more than {_MAX_BYTES} bytes, which no key has")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise KeyFileError(f"key file {name} is not text") from error


def _is_secret(text: str) -> bool:
    """Everything that does not say that it is public."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith(("#", _PUBLIC)) for line in lines)
