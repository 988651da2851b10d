"""Convert one model, without a recipe: to ONNX, or from there to another format, with the proof that it is the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.build.digests import Stamp
from sdkpack.build.findings import Findings
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.formats import ONNX_MEDIA_TYPE, Formats
from sdkpack.build.guard.judges import LazyJudge
from sdkpack.build.models import Models, Prepared
from sdkpack.build.runner import Step, StepRun, StepRunner
from sdkpack.build.samples import Samples
from sdkpack.build.sources import SourceFile, Sources
from sdkpack.build.stages import Stages
from sdkpack.build.steps.converting import Conversion, conversion_of
from sdkpack.build.steps.exporting import export_step
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.store import Store, StoredResult
from sdkpack.bundle.files import atomic_file
from sdkpack.documents.recipe import ConvertSection, DefaultsSection, ModelSection
from sdkpack.errors import FileError, OutputError
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.model.join import join_external, join_inline
from sdkpack.model.table import read_table
from sdkpack.plugin.info import ConverterInfo, RuntimeInfo
from sdkpack.types import TensorSpec

__all__ = ["Converted", "Export", "convert"]

_INLINE_BELOW_BYTES: Final = (1 << 31) - (64 << 20)
"""A protobuf message ends at 2 GiB; weights of larger models go into a file beside it."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_BLOCK: Final = 1 << 20
_ANY: Final = RuntimeInfo(name="any", summary="Takes whatever ONNX has.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What became of one model."""

    files: tuple[Path, ...]
    """What was written; the model first."""
    source_format: str
    converters: tuple[str, ...]
    """Which plugins did it; none where ONNX was only read, or cut."""
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    """How many nodes of each operator the ONNX model has."""
    evidence: tuple[Mapping[str, Any], ...]
    passes: tuple[Mapping[str, Any], ...] = ()
    """What became of each pass of the optimisation, in order: name, category, round, verdict, reason, nodes by operator
    and bytes of constants before and after, seconds, notes."""
    graphs: tuple[bytes, bytes] | None = None
    """The ONNX model before and after the optimisation; its larger weights are declared, with types and shapes, but
    stand in no file."""
    notes: tuple[str, ...]
    ran: int
    cached: int
    """Steps whose results the store had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """To which other format, and how."""

    to: str
    """A converter's name, a media type that it writes, or the middle word of one."""
    section: ConvertSection = field(default_factory=ConvertSection)
    """Settings of that converter."""


def convert(
    source: Path,
    *,
    registry: Registry,
    runner: StepRunner,
    section: ModelSection | None = None,
    given: Mapping[str, Path] | None = None,
    export: Export | None = None,
    runtime: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    parity: ParitySettings | None = None,
) -> Converted:
    """Converts the model at `source`, and optimises it where the section says so.

    Args:
        source: a file, or the folder of a format that is one.
        registry: the plugins in use.
        runner: runs the steps; its store keeps what they made.
        section: settings, as `models.NAME` of a recipe has them; its `source` plays no part.
        given: files that the section refers to, by reference.
        export: where ONNX is not the end.
        runtime: what the result must suit: a runtime's opsets and operators; any where absent.
        out: a file or folder; by default a file with the source's name in the current folder.
        overwrite: replaces files that are there.
        parity: how results are compared.

    Raises:
        SdkpackError: as its code says; nothing was written then.
        InterruptedRunError: the user wants to stop.
    """
    if not source.exists():
        raise FileError(f"there is no file '{source}'", hint="check the path")
    job = _Job(
        source=source, name=_name_of(source), registry=registry, runner=runner, given=given or {},
        section=section or ModelSection(source=source.name), parity=parity or ParitySettings(),
        info=_ANY if runtime is None else registry.runtime(runtime).info,
    )  # fmt: skip
    if export is None:
        target = _target(out, source, ".onnx")
        _check_free(target, overwrite)
        return job.told(_write_onnx(job.model().result, target, runner.store, overwrite))
    run = job.exported(export)
    names = _names(run.result, _target(out, source, ""))
    for path in names.values():
        _check_free(path, overwrite)
    # The model last: where it is, all of it is.
    for role, path in sorted(names.items(), key=lambda item: item[0] == "model"):
        _copy(runner.store.path(run.result.files[role].digest), path, overwrite)
    return job.told((names["model"], *(path for role, path in names.items() if role != "model")))


@dataclass(slots=True, kw_only=True)
class _Job:
    source: Path
    name: str
    registry: Registry
    runner: StepRunner
    section: ModelSection
    given: Mapping[str, Path]
    parity: ParitySettings
    info: RuntimeInfo
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    runs: list[StepRun] = field(default_factory=list)
    tools: ToolHost = field(init=False)
    prepared: Prepared = field(init=False)
    steps: dict[str, Step] = field(default_factory=dict)
    last: Step = field(init=False)
    """The step whose result is the ONNX model."""

    def __post_init__(self) -> None:
        self.tools = ToolHost(
            environ=self.runner.environment,
            tell=self.runner.reporter.warned,
            cancelled=self.runner.cancel.is_set,
            progress=self.runner.reporter.progressed,
        )

    def model(self) -> StepRun:
        """Brings the source to ONNX, and optimises it."""
        findings = Findings(str(self.source))
        section = self.section.model_copy(update={"source": self.source.name})
        sources = Sources(folder=self.source.parent.absolute(), given={**self.given, section.source: self.source})
        samples = Samples(sources, self.runner.store, self.registry)
        judge = LazyJudge(self.registry, self.tools)
        newest = None if self.info.opsets is None else self.info.opsets[1]
        self.prepared = Models(
            sections={self.name: section}, sources=sources, registry=self.registry, tools=self.tools,
            runner=self.runner, fingerprints=self.fingerprints, parity=self.parity, findings=findings,
            samples=samples, judge=judge, opset=lambda _: newest,
        ).prepared()  # fmt: skip
        findings.raise_plain()
        self.steps, self.last = dict(self.prepared.steps), self.prepared.last[self.name]
        self.runs += self.prepared.runs.values()
        stages = Stages(
            defaults=DefaultsSection(), samples=samples, noted=lambda *_: None,
            registry=self.registry, tools=self.tools, store=self.runner.store, fingerprints=self.fingerprints,
            parity=self.parity, findings=findings, judge=judge, steps=self.steps,
        )  # fmt: skip
        step = stages.prepared(self.name, section, self.last, self.info)
        findings.raise_plain()
        if step is not None and step is not self.last:
            self._run(step)
            self.last = step
        return self._result(self.last)

    def _run(self, step: Step) -> StepRun:
        before = {run.id: run.result for run in self.runs}
        done = self.runner.run((step,), before=before).done[step.id]
        self.runs.append(done)
        return done

    def _result(self, step: Step) -> StepRun:
        return next(run for run in self.runs if run.id == step.id)

    def exported(self, export: Export) -> StepRun:
        """Brings the source to ONNX, and from there to another format."""
        row = Formats(self.registry, self.tools).writer(export.to)
        self.model()
        written = next(kind for kind in row.info.writes if kind != ONNX_MEDIA_TYPE)
        writer = self._conversion(row, export.section, written)
        step = export_step(
            writer, self._reader(written), before=self.last, settings=self.parity, store=self.runner.store,
            fingerprints=self.fingerprints,
        )  # fmt: skip
        self.steps[step.id] = step
        return self._run(step)

    def _reader(self, media_type: str) -> Conversion | None:
        rows = [row for row in self.registry.converters()
                if media_type in row.info.reads and ONNX_MEDIA_TYPE in row.info.writes]  # fmt: skip
        return self._conversion(rows[0], ConvertSection(), ONNX_MEDIA_TYPE) if rows else None

    def _conversion(self, row: Registered[ConverterInfo], section: ConvertSection, writes: str) -> Conversion:
        stamp: Stamp = self.prepared.files[self.name].stamp
        source = SourceFile(reference=self.source.name, path=self.source)
        return conversion_of(
            self.name, row, source=source, stamp=stamp, files={}, section=section, tools=self.tools, writes=writes
        )

    def told(self, files: tuple[Path, ...]) -> Converted:
        model = self._result(self.last)
        imported, operators = Imported(model.result), model.result.data["operators"]
        runs = [model, *(run for run in self.runs if run.id.endswith("/export"))]
        notes = [note for run in self.runs for note in run.result.data.get("notes", ())]
        by = [step.plan.plugin for step in self.steps.values() if step.plan.kind in ("convert", "export")]
        return Converted(
            files=files, source_format=self.prepared.files[self.name].format, converters=tuple(by),
            opset=dict(imported.opsets).get("", 0), inputs=imported.inputs, outputs=imported.outputs,
            operators={f"{domain}.{name}" if domain else name: count for domain, name, count in operators},
            evidence=tuple(finding for run in runs for finding in run.result.data.get("evidence", ())),
            passes=tuple(model.result.data.get("passes", ())), graphs=self._graphs(model),
            notes=tuple(dict.fromkeys(notes)),
            ran=sum(not run.cached for run in self.runs), cached=sum(run.cached for run in self.runs),
        )  # fmt: skip

    def _graphs(self, model: StepRun) -> tuple[bytes, bytes] | None:
        if self.last.plan.kind != "optimize":
            return None
        before = self._result(self.prepared.last[self.name])
        return _declared(before.result, self.runner.store), _declared(model.result, self.runner.store)


def _name_of(source: Path) -> str:
    name = _NO_NAME.sub("_", source.stem).strip("_-")
    return name if name[:1].isalpha() else f"m_{name}".rstrip("_")


# Files ------------------------------------------------------------------------------------------------------------
def _target(out: Path | None, source: Path, suffix: str) -> Path:
    name = source.stem + suffix
    if out is None:
        return Path(name)
    return out / name if out.is_dir() else out


def _check_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(f"'{path}' exists already", hint="choose another name (-o), or replace it (--force)")


def _names(result: StoredResult, target: Path) -> dict[str, Path]:
    """Where each role's file goes: the target's name, with the suffixes that the converter gave."""
    stem = target.with_suffix("") if target.suffix else target
    named = {role: stem.with_suffix(Path(name).suffix) for role, name in result.data["names"].items()}
    if len(set(named.values())) < len(named):
        named = {role: stem.parent / f"{stem.name}.{role}" for role in named}
    return {**named, "model": target} if target.suffix else named


def _write_onnx(result: StoredResult, target: Path, store: Store, overwrite: bool) -> tuple[Path, ...]:
    files = result.files
    graph, weights = store.read(files["graph"]), files["weights"]
    table = read_table(store.read(files["tensors"]), weights.size_bytes)
    if weights.size_bytes + len(graph) < _INLINE_BELOW_BYTES:
        content = store.read(weights)
        with atomic_file(target, overwrite=overwrite) as out:
            for piece in join_inline(graph, table, content):
                out.write(piece)
        return (target,)
    beside = target.with_name(f"{target.name}.weights")
    _check_free(beside, overwrite)
    _copy(store.path(weights.digest), beside, overwrite)
    with atomic_file(target, overwrite=overwrite) as out:
        out.write(join_external(graph, table, beside.name))
    return (target, beside)


def _declared(result: StoredResult, store: Store) -> bytes:
    """The model with its moved weights as external data of a file that there is not: to be looked at, not run."""
    table = read_table(store.read(result.files["tensors"]), result.files["weights"].size_bytes)
    return join_external(store.read(result.files["graph"]), table, "weights")


def _copy(source: Path, target: Path, overwrite: bool) -> None:
    with source.open("rb") as file, atomic_file(target, overwrite=overwrite) as out:
        while block := file.read(_BLOCK):
            out.write(block)
