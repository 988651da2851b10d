"""ONNX external data: which bytes of which file a tensor means, or a refusal.

Our own, because neither `onnx.load`, the checker nor ONNX Runtime refuses every hostile location. Source of the
rules: onnx.proto, TensorProto.external_data; stricter where it is silent (unknown keys, hard links, links inside the
folder).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from sdkpack.errors import ExternalDataError
from sdkpack.model.beneath import NotBeneathError, open_beneath
from sdkpack.model.elements import ELEMENTS, STRING, is_external, tensor_bytes
from sdkpack.model.walk import iter_tensors

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from onnx import ModelProto, TensorProto

__all__ = ["ExternalFolder", "FileRange", "external_locations", "resolve_all"]

_KEYS: Final = ("location", "offset", "length", "checksum")
# 19 digits hold every file offset; more is an attempt on integer parsing.
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SHA1: Final = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """`length` bytes at `offset` of an open file. Valid while its `ExternalFolder` is open."""

    fd: int
    offset: int
    length: int

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` within the range.

        Raises:
            ExternalDataError: the file shrank after it was checked.
        """
        parts: list[bytes] = []
        while count:
            part = os.pread(self.fd, count, self.offset + start)
            if not part:
                raise ExternalDataError("an external data file became shorter while it was read")
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class ExternalFolder:
    """The folder that a model's external data must stand in; a context manager that owns its open files.

    Each file is opened once; what was checked is what is read, also if somebody swaps the name afterwards.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._folder_fd = -1
        self._files: dict[str, tuple[int, os.stat_result]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes every file; ranges handed out before are then unusable. May be called again."""
        for fd, _ in self._files.values():
            os.close(fd)
        self._files.clear()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def resolve(self, tensor: TensorProto, where: str) -> FileRange:
        """The bytes that an external tensor means.

        Args:
            tensor: a tensor for which `is_external` holds.
            where: its place in the model, for messages.

        Raises:
            ExternalDataError: any rule of this module is broken.
            ModelError: shape or element type make no sense.
        """
        entry = _entries(tensor, where)
        needed = _needed_bytes(tensor, where)
        location = entry["location"]
        offset = _number(entry.get("offset", "0"), "offset", where, location)
        if "length" in entry:
            length = _number(entry["length"], "length", where, location)
            if length != needed:
                kind = f"{ELEMENTS[tensor.data_type].name} {list(tensor.dims)}"
                _refuse(where, location, f"wrong length, got {length}, expected {needed} for {kind}")
        fd, status = self._open(location, where)
        if offset + needed > status.st_size:
            ends = f"bytes {offset} to {offset + needed}"
            _refuse(where, location, f"{ends} reach past the end of the file, which has {status.st_size}")
        if "checksum" in entry:
            self._check_sha1(fd, entry["checksum"], where, location)
        return FileRange(fd=fd, offset=offset, length=needed)

    def check_unchanged(self) -> None:
        """Compares size and time of change of every opened file with those seen when it was opened.

        Raises:
            ExternalDataError: a file was written to in between, so that what was read may be a mixture.
        """
        for location, (fd, before) in self._files.items():
            now = os.fstat(fd)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise ExternalDataError(
                    f"external data file {location!r} changed while it was read",
                    hint="run again when nothing writes to it",
                )

    def _open(self, location: str, where: str) -> tuple[int, os.stat_result]:
        if location in self._files:
            return self._files[location]
        if self._folder is None:
            _refuse(where, location, "the model was given as bytes, so it has no folder to look in", hint=_PATH_HINT)
        try:
            if self._folder_fd < 0:
                # The author's own path: links above and up to the folder are his business.
                self._folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fd = open_beneath(self._folder_fd, location)
        except NotBeneathError as error:
            _refuse(where, location, error.reason)
        except OSError as error:
            _refuse(where, location, f"the model's folder cannot be opened: {os.strerror(error.errno or 0).lower()}")
        self._files[location] = fd, os.fstat(fd)
        return self._files[location]

    def _check_sha1(self, fd: int, stated: str, where: str, location: str) -> None:
        if not _SHA1.fullmatch(stated):
            _refuse(where, location, f"malformed checksum {stated[:64]!r}, expected 40 hex digits")
        # SHA-1 is what onnx.proto defines here; it guards against mix-ups, not attackers.
        digest = hashlib.sha1(usedforsecurity=False)
        at = 0
        while block := os.pread(fd, _BLOCK, at):
            digest.update(block)
            at += len(block)
        if digest.hexdigest() != stated.lower():
            _refuse(where, location, f"the file's SHA-1 is {digest.hexdigest()}, the model says {stated.lower()}")


_PATH_HINT: Final = "give the path of the model file instead"
_HINT: Final = (
    "keep external data in plain files beside the model, as onnx.save(..., save_as_external_data=True) writes them"
)


def external_locations(model: ModelProto) -> tuple[str, ...]:
    """The distinct locations of all external tensors, sorted; resolves and checks nothing but their keys.

    Raises:
        ExternalDataError: a tensor's external data entries are malformed.
    """
    found = {_entries(p.tensor, p.where)["location"] for p in iter_tensors(model) if is_external(p.tensor)}
    return tuple(sorted(found))


def resolve_all(model: ModelProto, folder: ExternalFolder) -> int:
    """Resolves every external tensor, wherever it stands; how many there are.

    Raises:
        ExternalDataError: one of them is refused.
    """
    count = 0
    for placed in iter_tensors(model):
        if is_external(placed.tensor):
            folder.resolve(placed.tensor, placed.where)
            count += 1
    return count


def _entries(tensor: TensorProto, where: str) -> dict[str, str]:
    """The key-value pairs of `external_data`, each key known and standing once."""
    if tensor.data_location != 1:
        _refuse(where, "", "external_data is set, but data_location does not say EXTERNAL")
    found: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in _KEYS:
            _refuse(where, "", f"unknown external data key {entry.key[:64]!r}, expected one of {', '.join(_KEYS)}")
        if entry.key in found:
            _refuse(where, "", f"external data key {entry.key!r} stands twice")
        found[entry.key] = entry.value
    if "location" not in found:
        _refuse(where, "", "external data without a location")
    return found


def _needed_bytes(tensor: TensorProto, where: str) -> int:
    if tensor.data_type == STRING:
        _refuse(where, "", "strings cannot stand in external data")
    typed = any(len(getattr(tensor, element.field)) for element in ELEMENTS.values())
    if tensor.HasField("raw_data") or typed or tensor.HasField("segment"):
        _refuse(where, "", "data both inside the model and external")
    return tensor_bytes(tensor, where)


def _number(text: str, key: str, where: str, location: str) -> int:
    if not _NUMBER.fullmatch(text):
        _refuse(where, location, f"malformed {key} {text[:64]!r}, expected a non-negative decimal number")
    return int(text)


def _refuse(where: str, location: str, reason: str, *, hint: str = _HINT) -> NoReturn:
    place = f"external data {location[:200]!r}: " if location else ""
    raise ExternalDataError(f"{place}{reason}", where=where, hint=hint)
