"""What a PyTorch file is, told without PyTorch: no line of the file is unpickled or run here."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sdkpack.errors import ModelError

__all__ = ["CONVERTERS", "Archive", "expect_kind", "is_safetensors", "kind_of", "open_archive"]

_LEGACY_PICKLE: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_UNREADABLE: Final = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
_MAX_SAFETENSORS_HEADER_BYTES: Final = 100_000_000
"""As the safetensors library's own limit."""
CONVERTERS: Final = {
    "program": ("torch.export", "a program of torch.export"),
    "script": ("torch.script", "a TorchScript module"),
    "weights": ("torch.state-dict", "a file of torch.save"),
    "legacy": ("torch.state-dict", "a file of torch.save"),
    "safetensors": ("torch.state-dict", "a safetensors file"),
}
"""Kind -> the converter that reads it, and what to call it."""


class Archive:
    """The members of a ZIP archive as torch writes them, below their one folder.

    torch reads archives with a library of its own, which compares names without case and takes another one of twins.
    So that both readers see the same, an archive is refused where they could differ.

    Raises:
        ModelError: it is damaged, or ambiguous.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.zip = zipfile.ZipFile(path)
            infos = self.zip.infolist()
        except _UNREADABLE as error:
            raise ModelError(
                f"{path.name!r} is a truncated or damaged ZIP archive: {error}", hint="copy or download it again"
            ) from error
        names = [info.filename for info in infos]
        roots = {name.partition("/")[0] for name in names}
        if len({name.lower() for name in names}) != len(names) or len(roots) != 1 or not names:
            raise ModelError(
                f"{path.name!r} is no archive of torch's: {len(names)} members below {len(roots)} folders, expected "
                "members with names that differ, below one folder",
                hint="save it again with torch",
            )
        if min(info.header_offset for info in infos) or self.zip.comment:
            raise ModelError(
                f"{path.name!r} holds something before or after its archive", hint="save it again with torch"
            )
        self.root = roots.pop()
        self.names: Sequence[str] = [name.partition("/")[2] for name in names]

    def read(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            ModelError: it is missing or damaged.
        """
        try:
            return self.zip.read(f"{self.root}/{name}")
        except (*_UNREADABLE, KeyError, EOFError, RuntimeError) as error:
            raise ModelError(f"the archive's member {name!r} cannot be read: {error}") from error


def open_archive(path: Path) -> Archive:
    """
    Raises:
        ModelError: it is damaged, or ambiguous.
    """
    return Archive(path)


def kind_of(path: Path) -> str:
    """`program`, `script`, `weights`, `legacy`, `safetensors`, or empty for none of these.

    Raises:
        ModelError: it begins like a ZIP archive and is none, or an ambiguous one.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_LEGACY_PICKLE):
        return "legacy"
    if is_safetensors(path):
        return "safetensors"
    if not head.startswith(b"PK\x03\x04"):
        return ""
    names = open_archive(path).names
    if "archive_format" in names and any(name.startswith("models/") for name in names):
        return "program"
    if "data.pkl" in names and "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "script"
    return "weights" if "data.pkl" in names else ""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins with a length and that much JSON (safetensors format, header)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_SAFETENSORS_HEADER_BYTES, path.stat().st_size - 8):
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except (ValueError, RecursionError):
            return False


def expect_kind(path: Path, *kinds: str) -> str:
    """The file's kind, one of `kinds`.

    Raises:
        ModelError: it is of another kind; the hint names the converter that reads it.
    """
    found = kind_of(path)
    if found in kinds:
        return found
    wanted = " or ".join(sorted({CONVERTERS[kind][1] for kind in kinds}))
    if not found:
        raise ModelError(f"{path.name!r} is not {wanted}", hint="see what each converter reads: sdkpack plugins list")
    name, text = CONVERTERS[found]
    raise ModelError(f"{path.name!r} is {text}, expected {wanted}", hint=f"set convert.converter = {name!r}")
