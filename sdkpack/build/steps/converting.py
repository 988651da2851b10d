"""Convert: from a model of another format to ONNX, by the plugin that knows the format best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import FileStamp
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.runner import Results, Step
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.recipe import ConvertSection
from sdkpack.errors import PluginBrokenError, PluginError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.converter import Converter, ConvertRequest, ConvertResult, SniffRequest
from sdkpack.plugin.info import ConverterInfo

__all__ = ["ONNX_MEDIA_TYPE", "choose_converter", "convert_step"]

ONNX_MEDIA_TYPE: Final = "application/vnd.onnx"

_HEAD_BYTES: Final = 4096
_MAGIC, _SUFFIX = 0.8, 0.3


def choose_converter(
    source: Path, section: ConvertSection | None, registry: Registry, tools: ToolHost
) -> Registered[ConverterInfo] | None:
    """The converter for a file: the one that the recipe names, else the one that is surest; None for ONNX.

    Magic bytes and suffixes are compared without a plugin's code. A converter is asked to look into the file only where
    these do not decide, because its answer may cost an environment.

    Raises:
        PluginError: several are equally sure.
        PluginMissingError: the recipe names one that is not installed.
    """
    if section is not None and section.converter is not None:
        return registry.converter(section.converter)
    rows = [row for row in registry.converters() if ONNX_MEDIA_TYPE in row.info.writes]
    with source.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    scores = {row.info.name: _declared(row.info, source, head) for row in rows}
    best = max(scores.values(), default=0.0)
    if source.suffix.lower() == ".onnx" and best < _MAGIC:
        return None
    likely = [row for row in rows if scores[row.info.name] == best]
    if len(likely) > 1 or not best:
        for row in (row for row in likely if "sniff" in row.info.capabilities):
            scores[row.info.name] = max(best, _sniffed(row, source, tools))
        best = max(scores.values(), default=0.0)
        likely = [row for row in rows if scores[row.info.name] == best]
    if not best:
        return None
    if len(likely) > 1:
        names = [row.info.name for row in likely]
        raise PluginError(
            f"the converters {' and '.join(map(repr, names))} both claim {source.name!r}",
            hint=f"name one in the recipe, for its model: convert.converter = {names[0]!r}",
        )
    return likely[0]


def _declared(info: ConverterInfo, source: Path, head: bytes) -> float:
    if any(head[magic.offset : magic.offset + len(magic.content)] == magic.content for magic in info.magics):
        return _MAGIC
    return _SUFFIX if source.suffix.lower() in info.suffixes else 0.0


def _sniffed(row: Registered[ConverterInfo], source: Path, tools: ToolHost) -> float:
    converter: Converter = tools.open(row, row.info.half)
    return min(max(float(converter.sniff(SniffRequest(source=source)).score), 0.0), 1.0)


def convert_step(
    model: str,
    row: Registered[ConverterInfo],
    *,
    source: SourceFile,
    stamp: FileStamp,
    files: Mapping[str, tuple[SourceFile, FileStamp]],
    section: ConvertSection | None,
    tools: ToolHost,
    store: Store,
    fingerprints: Fingerprints,
) -> Step:
    """The step that converts one model.

    Raises:
        PluginError: the converter's toolchain is missing.
        DocumentError: the converter refuses its settings.
    """
    schema = ParamSchema(row.info)
    params = schema.instance(section.params if section else {}, path=f"models.{model}.convert.with")
    converter: Converter = tools.open(row, row.info.half)
    probe = converter.probe()
    if not probe.ok:
        raise PluginError(
            f"converter {row.info.name!r} cannot work here: {probe.missing or 'no reason given'}", hint=probe.mend
        )
    plan = plan_step(
        id=f"{model}/convert",
        kind="convert",
        plugin=row.info.name,
        fingerprint=f"{fingerprints.plugin(row.plugin)}; {probe.fingerprint}",
        params={"with": schema.dump(params), "files": sorted(files)},
        files=(stamp.digest, *(files[name][1].digest for name in sorted(files))),
    )
    work = _Work(model=model, converter=converter, row=row, source=source, stamp=stamp, files=files, params=params,
                 store=store)  # fmt: skip
    return Step(plan=plan, work=work, cacheable=bool(probe.fingerprint))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    model: str
    converter: Converter
    row: Registered[ConverterInfo]
    source: SourceFile
    stamp: FileStamp
    files: Mapping[str, tuple[SourceFile, FileStamp]]
    params: Any
    store: Store

    def __call__(self, _: Results, context: BuildContext) -> StoredResult:
        context.progress(None, f"converting with {self.row.info.name}")
        request = ConvertRequest(
            name=self.model,
            source=self.source.path,
            files={name: file.path for name, (file, _) in self.files.items()},
            params=self.params,
        )
        result: object = self.converter.convert(request, context)
        where = f"converter {self.row.info.name!r}"
        if not isinstance(result, ConvertResult):
            raise PluginBrokenError(f"{where} returned a {type(result).__name__}, expected a ConvertResult")
        if not result.model.resolve().is_relative_to(context.work.resolve()) or not result.model.is_file():
            raise PluginBrokenError(f"{where} returned no file of its work folder: {result.model.name!r}")
        # What was read while it changed could be a mixture of two models.
        self.stamp.check_unchanged(self.source.path)
        for file, stamp in self.files.values():
            stamp.check_unchanged(file.path)
        for note in result.notes:
            context.warn(note)
        stored = self.store.adopt(result.model, ONNX_MEDIA_TYPE)
        data = {
            "format": self.row.info.reads[0],
            "notes": list(result.notes),
            "tools": dict(result.tools),
            "isolation": context.isolation,
        }
        return StoredResult(files={"model": stored}, data=data)
