"""Which converter reads a source: told by what is in the file, and only then by what the file is called.

The core knows no format but ONNX. Converters declare what their files begin with and what their folders and archives
hold; comparing that runs none of their code. A converter is asked to look inside only where this does not decide,
because its answer may cost an environment.
"""

from __future__ import annotations

import fnmatch
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sdkpack.documents.recipe import ConvertSection
from sdkpack.errors import FileError, ModelError, PluginError, SdkpackError
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.model.sniff import is_onnx
from sdkpack.plugin.converter import Converter, SniffRequest
from sdkpack.plugin.info import ConverterInfo

__all__ = ["ONNX_MEDIA_TYPE", "Formats"]

ONNX_MEDIA_TYPE: Final = "application/vnd.onnx"

_HEAD_BYTES: Final = 4096
_MAGIC, _SUFFIX = 0.8, 0.3
_MEMBERS, _EACH_MEMBER = 0.82, 0.02
"""A folder or archive with the right members; each pattern more makes it surer."""
_MAX_MEMBERS: Final = 10_000
_ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Formats:
    """The converters that are there, ranked for a source.

    Args:
        registry: the plugins in use.
        tools: where a converter that must look inside runs.
    """

    registry: Registry
    tools: ToolHost

    def reader(self, source: Path, section: ConvertSection | None = None) -> Registered[ConverterInfo] | None:
        """The converter to ONNX: the one that the recipe names, else the one that is surest; None for ONNX itself.

        Raises:
            ModelError: nothing reads this folder.
            PluginError: several are equally sure.
            PluginMissingError: the recipe names one that is not installed.
        """
        if section is not None and section.converter is not None:
            return self.registry.converter(section.converter)
        if not source.is_dir() and is_onnx(source):
            return None
        rows = [row for row in self.registry.converters() if ONNX_MEDIA_TYPE in row.info.writes]
        likely = self._surest(source, rows)
        if len(likely) > 1:
            names = [row.info.name for row in likely]
            raise PluginError(
                f"the converters {' and '.join(map(repr, names))} both claim {source.name!r}",
                hint=f"name one in the recipe, for its model: convert.converter = {names[0]!r}",
            )
        if not likely and source.is_dir():
            raise ModelError(
                f"no converter that is installed reads the folder {source.name!r}",
                hint="name the model's file, or install the plugin that reads such folders: sdkpack plugins list",
            )
        return likely[0] if likely else None

    def writer(self, media_type: str) -> Registered[ConverterInfo]:
        """The converter from ONNX to another format, by its media type, or by the converter's own name.

        Raises:
            PluginError: none writes it, or several do.
        """
        rows = [row for row in self.registry.converters() if ONNX_MEDIA_TYPE in row.info.reads]
        found = [row for row in rows if media_type in (row.info.name, *row.info.writes, *map(_word, row.info.writes))]
        if len(found) == 1:
            return found[0]
        have = ", ".join(sorted({row.info.name for row in (found or rows)})) or "none"
        if found:
            raise PluginError(f"several converters write {media_type!r}", hint=f"name one of them: {have}")
        raise PluginError(
            f"no converter that is installed writes {media_type!r}", hint=f"those that write other formats: {have}"
        )

    def _surest(self, source: Path, rows: Sequence[Registered[ConverterInfo]]) -> list[Registered[ConverterInfo]]:
        look = _Look.at(source)
        scores = {row.info.name: look.score(row.info) for row in rows}
        best = max(scores.values(), default=0.0)
        likely = [row for row in rows if scores[row.info.name] == best]
        if len(likely) > 1 or best <= _SUFFIX:
            # With nothing but a name to go by, whoever can look inside may know better, and a wrong name is found out.
            asked = likely if best > _SUFFIX else rows
            for row in (row for row in asked if "sniff" in row.info.capabilities and look.offered(row.info)):
                scores[row.info.name] = self._sniffed(row, source, scores[row.info.name])
            best = max(scores.values(), default=0.0)
            likely = [row for row in rows if scores[row.info.name] == best]
        return likely if best else []

    def _sniffed(self, row: Registered[ConverterInfo], source: Path, declared: float) -> float:
        if row.info.half.isolation != "in-process" and not declared:
            return 0.0  # an environment is not built for a file that gives no hint of being this plugin's
        try:
            converter: Converter = self.tools.open(row, row.info.half)
            score = float(converter.sniff(SniffRequest(source=source)).score)
        except SdkpackError:
            return declared  # a toolchain that is missing does not decide about files of others
        return min(max(score, 0.0), 1.0) if score else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a source shows without any plugin's code."""

    name: str
    folder: bool
    head: bytes = b""
    members: tuple[str, ...] = field(default=())

    @classmethod
    def at(cls, source: Path) -> _Look:
        if source.is_dir():
            below = (path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
            return cls(name=source.name, folder=True, members=_bounded(below))
        try:
            with source.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise FileError(f"cannot read it: {(error.strerror or str(error)).lower()}", where=str(source)) from error
        return cls(name=source.name, folder=False, head=head, members=_archived(source, head))

    def offered(self, info: ConverterInfo) -> bool:
        return bool(info.members) or not self.folder

    def score(self, info: ConverterInfo) -> float:
        if not self.offered(info):
            return 0.0
        if info.members and all(fnmatch.filter(self.members, pattern) for pattern in info.members):
            return min(_MEMBERS + _EACH_MEMBER * len(info.members), 1.0)
        if self.folder:
            return 0.0
        if any(self.head[magic.offset : magic.offset + len(magic.content)] == magic.content for magic in info.magics):
            return _MAGIC
        return _SUFFIX if self.name.lower().endswith(info.suffixes or ("\0",)) else 0.0


def _archived(source: Path, head: bytes) -> tuple[str, ...]:
    """Names in a ZIP archive's directory; none where it is damaged."""
    if not head.startswith(_ZIP):
        return ()
    try:
        with zipfile.ZipFile(source) as archive:
            return _bounded(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return ()


def _bounded(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, _ in zip(names, range(_MAX_MEMBERS), strict=False))


def _word(media_type: str) -> str:
    """`acme` of `application/vnd.acme.model`: what people say."""
    return media_type.rpartition("/")[2].removeprefix("vnd.").partition(".")[0]
