"""Finds the files that a recipe refers to: beside it, or inside a Python package that is never imported.

A reference is data that may come from somebody else, so it cannot leave its folder: no absolute path, no `..`, no
symbolic link that leads outside.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from sdkpack.errors import FileError, SdkpackError, UsageError

__all__ = ["METADATA_SCHEME", "PACKAGE_SCHEME", "SourceFile", "Sources", "metadata_reference"]

PACKAGE_SCHEME: Final = "package://"
METADATA_SCHEME: Final = "model-metadata://"

_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_PACKAGE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEAR: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file, or a model's folder, that the author refers to."""

    reference: str
    """As the recipe writes it; this goes into the bundle."""
    path: Path
    """Where it is on this machine; this does not."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where references of one recipe lead.

    Args:
        folder: the recipe's.
        package_paths: folders of packages (`pip install --target`), looked at before the installed ones.
        given: references that the user himself gave as paths, which may lead anywhere.
    """

    folder: Path
    package_paths: tuple[Path, ...] = ()
    given: Mapping[str, Path] = field(default_factory=dict)

    def find(self, reference: str, *, folders: bool = False) -> SourceFile:
        """
        Args:
            reference: as the recipe writes it.
            folders: whether it may be a folder: some formats of models are.

        Raises:
            FileError: there is no such file, or the reference leads out of its folder; near names are told.
            UsageError: the reference is malformed.
        """
        if reference in self.given:
            return SourceFile(reference=reference, path=self.given[reference].resolve())
        scheme = _SCHEME.match(reference)
        if reference.startswith(PACKAGE_SCHEME):
            return SourceFile(reference=reference, path=self._in_package(reference, folders))
        if scheme:
            raise UsageError(
                f"reference {reference!r} has the unknown scheme {scheme[1]!r}, "
                "expected a file beside the recipe or package://PACKAGE/FILE",
                hint="sdkpack downloads nothing: fetch the file first and put it beside the recipe",
            )
        path = _beneath([self.folder], reference, reference, "the recipe's folder", folders)
        return SourceFile(reference=reference, path=path)

    def _in_package(self, reference: str, folders_too: bool) -> Path:
        package, slash, file = reference.removeprefix(PACKAGE_SCHEME).partition("/")
        if not slash or not file or not _PACKAGE.fullmatch(package):
            suggestion = re.sub(r"[-.]", "_", package)
            hint = f"use the name that Python imports: package://{suggestion}/..." if suggestion != package else ""
            raise UsageError(f"reference {reference!r} is malformed, expected package://PACKAGE/FILE", hint=hint)
        folders = self._folders_of(package)
        if not folders:
            looked = ", ".join(str(path) for path in self.package_paths)
            raise FileError(
                f"package {package!r} is neither installed nor in a package path"
                + (f", looked in {looked}" if looked else ""),
                where=reference,
                hint=f"pip install --no-deps --target DIR {package.replace('_', '-')}, then give --package-path DIR",
            )
        return _beneath(folders, file, reference, f"package {package!r}", folders_too)

    def _folders_of(self, package: str) -> list[Path]:
        for folder in self.package_paths:
            if (folder / package).is_dir():
                return [folder / package]
        return _installed(package)


def metadata_reference(reference: str) -> tuple[str, str] | None:
    """Model and key of `model-metadata://MODEL/KEY`; None for another kind of reference.

    Raises:
        UsageError: it is malformed.
    """
    if not reference.startswith(METADATA_SCHEME):
        return None
    model, _, key = reference.removeprefix(METADATA_SCHEME).partition("/")
    if not model or not key:
        raise UsageError(f"reference {reference!r} is malformed, expected model-metadata://MODEL/KEY")
    return model, key


def _installed(package: str) -> list[Path]:
    # A name without a dot: finding its spec imports no parent, so none of the package's own code runs.
    loaded = sys.modules.get(package)
    try:
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    locations = spec.submodule_search_locations if spec is not None else None
    return [path for location in locations or () if (path := Path(location)).is_dir()]


def _beneath(roots: Sequence[Path], name: str, reference: str, what: str, folders: bool) -> Path:
    parts = _parts(name, reference)
    for root in roots:
        try:
            real = root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        if not real.is_relative_to(root.resolve()):
            raise FileError(
                f"{reference!r} is a symbolic link that leads out of {what}",
                hint="put a copy of the file in its place",
            )
        if folders and real.is_dir():
            return real
        if not stat.S_ISREG(real.stat().st_mode):
            raise FileError(f"{reference!r} is not a regular file", hint="name a file in it" if real.is_dir() else "")
        return real
    raise _missing(roots, parts, reference, what)


def _parts(name: str, reference: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if "\0" in name or "\\" in name or not path.parts:
        raise UsageError(f"reference {reference!r} is no file name", hint="write folders with /")
    if path.is_absolute() or ".." in path.parts or name.startswith("~"):
        raise UsageError(
            f"reference {reference!r} leads out of its folder",
            hint="put the file beside the recipe or below it, or name its folder with --package-path and refer to it "
            "as package://FOLDER/FILE",
        )
    return path.parts


def _missing(roots: Sequence[Path], parts: tuple[str, ...], reference: str, what: str) -> SdkpackError:
    near = list(_near_names(roots, parts))[:_NEAR]
    hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return FileError(f"there is no file {'/'.join(parts)!r} in {what}", where=reference, hint=hint)


def _near_names(roots: Sequence[Path], parts: tuple[str, ...]) -> Iterator[str]:
    """Names like the missing one: in the folder that it should be in, else anywhere among the first files below."""
    wanted, suffix = parts[-1], PurePosixPath(parts[-1]).suffix
    for root in roots:
        folder = root.joinpath(*parts[:-1])
        names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        near = difflib.get_close_matches(wanted, names, n=_NEAR) or [n for n in names if suffix and n.endswith(suffix)]
        yield from ("/".join((*parts[:-1], name)) for name in near)
        if not near and not folder.is_dir():
            found = (path for number, path in enumerate(root.rglob("*")) if number < 10_000 and path.name == wanted)
            yield from sorted(path.relative_to(root).as_posix() for path in found)
