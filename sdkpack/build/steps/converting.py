"""Convert: from a model of another format to ONNX, by the plugin that knows the format best.

What comes out is imported in the same step: checked, split into graph and weights, its facts read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import FileStamp, Stamp
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.formats import ONNX_MEDIA_TYPE
from sdkpack.build.runner import Results, Step
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.declaring import Declared
from sdkpack.build.steps.importing import LIBRARIES, import_file
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.recipe import ConvertSection
from sdkpack.errors import ModelError, PluginBrokenError, PluginError, StepError, UsageError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.converter import Converter, ConvertRequest, ConvertResult
from sdkpack.plugin.info import ConverterInfo
from sdkpack.types import TensorSpec

__all__ = ["Conversion", "checked_result", "conversion_of", "convert_step"]

_CODE: Final = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One model to convert: with what, from what, with which settings."""

    model: str
    row: Registered[ConverterInfo]
    converter: Converter
    fingerprint: str
    """Of the toolchain; empty where it has none."""
    source: SourceFile
    stamp: Stamp
    files: Mapping[str, tuple[SourceFile, Stamp]] = field(default_factory=dict)
    section: ConvertSection = field(default_factory=ConvertSection)
    params: Any = None
    inputs: tuple[TensorSpec, ...] = ()
    opset: int | None = None
    samples: tuple[tuple[SourceFile, FileStamp], ...] = ()
    writes: str = ONNX_MEDIA_TYPE

    def request(self) -> ConvertRequest:
        return ConvertRequest(
            name=self.model,
            source=self.source.path,
            files={name: file.path for name, (file, _) in self.files.items()},
            params=self.params,
            inputs=self.inputs,
            opset=self.opset,
            writes=self.writes,
            allow_code=self.section.allow_code,
            samples=tuple(file.path for file, _ in self.samples),
        )

    def facts(self) -> dict[str, Any]:
        """All settings as JSON, for the step's key; absent what plays no part."""
        facts: dict[str, Any] = {
            "with": ParamSchema(self.row.info).dump(self.params),
            "files": sorted(self.files),
            "inputs": [[spec.name, spec.dtype, list(spec.shape), spec.layout] for spec in self.inputs],
            "opset": self.opset,
            "writes": self.writes if self.writes != ONNX_MEDIA_TYPE else None,
            "allow_code": self.section.allow_code or None,
        }
        return {name: value for name, value in facts.items() if value not in (None, []) or name in ("with", "files")}

    def digests(self) -> tuple[str, ...]:
        files = (self.files[name][1].digest for name in sorted(self.files))
        return (self.stamp.digest, *files, *(stamp.digest for _, stamp in self.samples))

    def check_unchanged(self) -> None:
        """What was read while it changed could be a mixture of two models."""
        self.stamp.check_unchanged(self.source.path)
        for file, stamp in self.files.values():
            stamp.check_unchanged(file.path)


def conversion_of(
    model: str,
    row: Registered[ConverterInfo],
    *,
    source: SourceFile,
    stamp: Stamp,
    files: Mapping[str, tuple[SourceFile, Stamp]],
    section: ConvertSection | None,
    tools: ToolHost,
    inputs: Sequence[TensorSpec] = (),
    opset: int | None = None,
    samples: Sequence[tuple[SourceFile, FileStamp]] = (),
    writes: str = ONNX_MEDIA_TYPE,
) -> Conversion:
    """What is to be done, with the converter opened and its settings checked.

    Raises:
        UsageError: code is allowed to a converter that takes none.
        PluginError: the converter's toolchain is missing.
        PluginBrokenError: it asks to run a source's code in this process.
        DocumentError: the converter refuses its settings.
    """
    section = section or ConvertSection()
    name, half = row.info.name, row.info.half
    if section.allow_code and _CODE not in row.info.capabilities:
        raise UsageError(f"converter {name!r} takes no sources with code", hint="leave out allow_code for this model")
    if section.allow_code and half.isolation == "in-process":
        raise PluginBrokenError(
            f"converter {name!r} would run a source's code in this process", hint="tell the plugin's author"
        )
    params = ParamSchema(row.info).instance(section.params, path=f"models.{model}.convert.with")
    converter: Converter = tools.open(row, half)
    probe = converter.probe()
    if not probe.ok:
        raise PluginError(f"converter {name!r} cannot work here: {probe.missing or 'no reason given'}", hint=probe.mend)
    newest = [version for version in (section.opset, opset) if version is not None]
    return Conversion(
        model=model, row=row, converter=converter, fingerprint=probe.fingerprint, source=source, stamp=stamp,
        files=files, section=section, params=params, inputs=tuple(inputs), opset=min(newest, default=None),
        samples=tuple(samples), writes=writes,
    )  # fmt: skip


def convert_step(conversion: Conversion, declared: Declared, store: Store, fingerprints: Fingerprints) -> Step:
    """The step that converts one model.

    Args:
        conversion: what is to be done.
        declared: what the author says of the result's inputs.
        store: where the result goes.
        fingerprints: of this build.
    """
    row = conversion.row
    plan = plan_step(
        id=f"{conversion.model}/convert",
        kind="convert",
        plugin=row.info.name,
        fingerprint=f"{fingerprints.plugin(row.plugin)}; {conversion.fingerprint}; {fingerprints.core(*LIBRARIES)}",
        params=conversion.facts() | declared.as_json(),
        files=conversion.digests(),
        deterministic=row.info.deterministic,
    )
    return Step(plan=plan, work=_Work(conversion, declared, store), cacheable=bool(conversion.fingerprint))


@dataclass(frozen=True, slots=True)
class _Work:
    conversion: Conversion
    declared: Declared
    store: Store

    def __call__(self, _: Results, context: BuildContext) -> StoredResult:
        made = self.conversion
        name = made.row.info.name
        context.progress(None, f"converting with {name}")
        with _naming(made):
            answer = made.converter.convert(made.request(), context)
        result = checked_result(answer, name, context)
        made.check_unchanged()
        for note in result.notes:
            context.warn(note)
        # Read as an author's file is: the toolchain is no more trusted.
        imported = import_file(result.model, self.store, context, name=f"the result of {name!r}")
        facts = {
            "format": made.row.info.reads[0],
            "notes": list(result.notes),
            "tools": dict(result.tools),
            "isolation": context.isolation,
        }
        data = self.declared.applied(imported.data, (*result.inputs, *result.outputs))
        return StoredResult(files=imported.files, data={**data, **facts})


@contextmanager
def _naming(conversion: Conversion) -> Iterator[None]:
    """Who refused a source, and what to do if it was never meant for that converter.

    A descriptor may claim more than its converter reads: magic bytes that other formats share, an old version.
    """
    try:
        yield
    except (ModelError, StepError) as error:
        error.where = error.where or f"converter {conversion.row.info.name!r} on {conversion.source.reference!r}"
        if not error.hint:
            formats = ", ".join(conversion.row.info.reads)
            error.hint = (
                f"it claims {formats}; if the source is of another format, name its converter: "
                f"models.{conversion.model}.convert.converter"
            )
        raise


def checked_result(result: object, converter: str, context: BuildContext) -> ConvertResult:
    """A converter's answer, if it is one.

    Raises:
        PluginBrokenError: it is none, or names what is no file of the work folder.
    """
    where = f"converter {converter!r}"
    if not isinstance(result, ConvertResult):
        raise PluginBrokenError(f"{where} returned a {type(result).__name__}, expected a ConvertResult")
    for path in (result.model, *result.files.values()):
        if not path.resolve().is_relative_to(context.work.resolve()) or path.is_symlink() or not path.is_file():
            raise PluginBrokenError(f"{where} returned no file of its work folder: {path.name!r}")
    return result
