"""Finds an interpreter of a wanted version. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdkpack.errors import PluginError, UsageError

__all__ = ["Python", "find_python", "matches"]

_CLAUSE: Final = re.compile(r"\s*(>=|<=|==|!=|~=|<|>)\s*(\d+(?:\.\d+){0,2})(\.\*)?\s*")
_ASK: Final = "import sys, json; print(json.dumps([list(sys.version_info[:3]), sys.executable, sys.base_prefix]))"
_MINORS: Final = range(6, 31)
_OLDEST: Final = (3, 8)
"""Of the job entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter."""

    executable: Path
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def matches(specifier: str, version: tuple[int, ...]) -> bool:
    """Whether a version is in a set such as `>=3.8,<3.11`; the empty set is any.

    Raises:
        UsageError: the text is no such set.
    """
    clauses = [text for text in specifier.split(",") if text.strip()]
    return all(_holds(text, version, specifier) for text in clauses)


def _holds(text: str, version: tuple[int, ...], specifier: str) -> bool:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise UsageError(f"{specifier!r} names no versions of Python, expected a form like '>=3.8,<3.11'")
    operator, digits, star = match[1], match[2], match[3]
    wanted = tuple(int(part) for part in digits.split("."))
    have = version[: len(wanted)] if star or operator in ("==", "!=") else version
    padded = wanted if star or operator in ("==", "!=") else wanted + (0,) * (3 - len(wanted))
    match operator:
        case ">=":
            return have >= padded
        case "<=":
            return have <= padded
        case "<":
            return have < padded
        case ">":
            return have > padded
        case "==":
            return have == padded
        case "!=":
            return have != padded
    return have >= padded and version[: len(wanted) - 1] == wanted[:-1]  # ~=


def find_python(specifier: str, environ: Mapping[str, str]) -> Python:
    """The newest interpreter that fits; that of sdkpack itself where any does.

    Looked at: SDKPACK_PYTHONS (paths, separated as PATH is), `python3.X` on PATH, pyenv's and uv's folders.

    Raises:
        PluginError: there is none; the message says what was found.
        UsageError: `specifier` is malformed.
    """
    own = Python(executable=Path(sys.executable), version=sys.version_info[:3])
    if matches(specifier, own.version):
        return own
    found = {python.version: python for path in _candidates(environ) if (python := _ask(path, environ))}
    fitting = [version for version in found if version >= _OLDEST and matches(specifier, version)]
    if fitting:
        return found[max(fitting)]
    have = ", ".join(sorted({python.version_text for python in (own, *found.values())}))
    raise PluginError(
        f"no Python {specifier} here, found {have}",
        hint="install one, and name it in SDKPACK_PYTHONS where it is not on the PATH (uv python install does too)",
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    yield from (Path(text) for text in environ.get("SDKPACK_PYTHONS", "").split(os.pathsep) if text)
    for minor in _MINORS:
        if (path := shutil.which(f"python3.{minor}", path=environ.get("PATH", os.defpath))) is not None:
            yield Path(path)
    home = Path(environ.get("HOME") or Path.home())
    for folder in (
        Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python"),
    ):
        yield from sorted(folder.glob("*/bin/python3"))


def _ask(path: Path, environ: Mapping[str, str]) -> Python | None:
    try:
        done = subprocess.run(
            [str(path), "-I", "-S", "-c", _ASK], capture_output=True, timeout=20, check=True, env=dict(environ)
        )
        version, executable, _ = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Python(executable=Path(executable), version=(version[0], version[1], version[2]))
