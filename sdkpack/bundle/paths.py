"""Names of files in a bundle: a small alphabet, so that no system reads a name differently from another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sdkpack.errors import PathNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_PATH_BYTES", "check_path", "check_paths"]

MAX_PATH_BYTES: Final = 1024
MAX_COMPONENT_BYTES: Final = 255  # what Linux, macOS and Windows file systems take
_COMPONENT: Final = re.compile(r"[A-Za-z0-9._-]+")
# Windows opens a device for these names, with any extension.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])", re.IGNORECASE)


def check_path(path: str) -> None:
    """Checks one name.

    Raises:
        PathNameError: it could mean another file, or none, on some system.
    """
    if len(path) > MAX_PATH_BYTES:
        raise PathNameError(f"path name of {len(path)} bytes, expected at most {MAX_PATH_BYTES}: {path[:60]!r}...")
    for component in path.split("/"):
        reason = _component_problem(component)
        if reason:
            raise PathNameError(
                f"path name {path!r} is not allowed: {reason}",
                hint="use letters, digits, '.', '_' and '-', with '/' between folders",
            )


def _component_problem(component: str) -> str:
    if not component:
        return "it has an empty part"
    if not _COMPONENT.fullmatch(component):
        return "it has a character outside A-Z a-z 0-9 . _ -"
    if component[0] == "." or component[-1] == ".":  # '.', '..', hidden files, and dots that Windows drops
        return "a part begins or ends with a dot"
    if len(component) > MAX_COMPONENT_BYTES:
        return f"a part is longer than {MAX_COMPONENT_BYTES} bytes"
    if _DEVICE.fullmatch(component.split(".", 1)[0]):
        return "Windows reserves the name for a device"
    return ""


def check_paths(paths: Iterable[str]) -> None:
    """Checks all names of a bundle together: sorted, unique, no clash on systems that ignore case, no file as folder.

    Raises:
        PathNameError: see above.
    """
    names = list(paths)
    for path in names:
        check_path(path)
    if names != sorted(set(names)):
        raise PathNameError("path names are not sorted and unique")
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for path in names:
        lower = path.lower()
        if lower in taken:
            raise PathNameError(f"path name {path!r} differs from another only in upper and lower case")
        taken.add(lower)
        for end in (at for at, letter in enumerate(path) if letter == "/"):
            folder = path[:end]
            # 'A/x' and 'a/y' would share a folder on one system and not on another.
            if folders.setdefault(folder.lower(), folder) != folder:
                raise PathNameError(f"folder {folder!r} differs from another only in upper and lower case")
    for path in names:
        if path.lower() in folders:
            raise PathNameError(f"path name {path!r} is both a file and a folder")
