"""Writes a new plugin's distribution: complete, working, and saying what to fill in."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from sdkpack.errors import OutputError, UsageError

__all__ = ["KINDS", "write_scaffold"]

KINDS: Final = ("runtime", "operator", "converter", "optimizer", "compressor", "exporter", "key-provider")

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_SUFFIX: Final = ".tmpl"


def write_scaffold(kind: str, name: str, folder: Path) -> tuple[Path, ...]:
    """Writes the files of a new plugin into `folder`, which it makes.

    Args:
        kind: one of `KINDS`.
        name: of what it brings, namespaced: `acme.npu2`.
        folder: must not exist, or be empty.

    Raises:
        UsageError: the kind or name is none.
        OutputError: there is something in the folder already, or it cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no template for {kind!r}, expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a plugin, expected VENDOR.NAME in lower case, such as acme.npu2")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' exists already", hint="choose another folder (-o), or empty it")
    package = name.replace(".", "_")
    words = {
        "@NAME@": name,
        "@PACKAGE@": package,
        "@DISTRIBUTION@": package.replace("_", "-"),
        "@POINT@": name.rpartition(".")[2],
        "@SCHEME@": re.sub(r"[._]", "-", name),
        "@VARIABLE@": package.upper(),
        "@CLASS@": "".join(part.title() for part in re.split(r"[._]", name)),
    }
    written = []
    root = resources.files("sdkpack.testing") / "templates" / kind
    for source, place in _files(root, ""):
        path = folder / place.replace("src/", f"src/{package}/").removesuffix(_SUFFIX)
        text = source.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {str(error.strerror).lower()}") from error
        written.append(path)
    return tuple(written)


def _files(folder: Traversable, place: str) -> list[tuple[Traversable, str]]:
    found: list[tuple[Traversable, str]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{place}{entry.name}"
        if entry.is_dir():
            found += _files(entry, f"{name}/")
        elif entry.name.endswith(_SUFFIX):
            found.append((entry, name))
    return found
