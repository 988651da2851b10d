"""A recipe's models, brought to ONNX: converted where they are something else, read, compared with their sources, cut.

These steps run while a recipe is resolved, since pipelines are checked against the inputs and outputs that they find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sdkpack.build.digests import Stamp, stamp_source
from sdkpack.build.findings import Findings
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.formats import Formats
from sdkpack.build.guard.judges import Judge
from sdkpack.build.runner import Step, StepRun, StepRunner
from sdkpack.build.samples import Samples
from sdkpack.build.sources import SourceFile, Sources
from sdkpack.build.steps.checking import check_step
from sdkpack.build.steps.converting import Conversion, conversion_of, convert_step
from sdkpack.build.steps.cutting import cut_step
from sdkpack.build.steps.declaring import Declared
from sdkpack.build.steps.importing import Imported, ModelFiles, import_step, stamp_model
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.steps.samples import shape_problem
from sdkpack.documents.recipe import ModelSection
from sdkpack.errors import DocumentError, Problem
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost

__all__ = ["RESOLVING", "Models", "Prepared"]

RESOLVING: Final = frozenset({"convert", "import", "check", "cut"})
"""Kinds of steps that run while a recipe is resolved."""


@dataclass(slots=True)
class Prepared:
    """What became of the models."""

    files: dict[str, ModelFiles] = field(default_factory=dict)
    """By model, the author's files; without those that failed."""
    steps: dict[str, Step] = field(default_factory=dict)
    """By id, in the order in which they run."""
    last: dict[str, Step] = field(default_factory=dict)
    """By model, the step whose result is the model."""
    runs: dict[str, StepRun] = field(default_factory=dict)
    """By id, of the steps that did not fail."""

    @property
    def imports(self) -> dict[str, StepRun]:
        """By model, the run whose result is the model; without those that failed."""
        return {name: self.runs[step.id] for name, step in self.last.items() if step.id in self.runs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Prepares models.

    Args:
        sections: what the recipe says, by model.
        sources: where references lead.
        registry: the plugins in use.
        tools: where toolchains run.
        runner: runs the steps; its store keeps their results.
        fingerprints: of this build.
        parity: how converted models are compared with their sources.
        findings: gets everything that is wrong.
        samples: finds the models' real inputs.
        judge: runs models where the reference cannot.
        opset: the newest version of ONNX's operators that a model's targets take.
    """

    sections: Mapping[str, ModelSection]
    sources: Sources
    registry: Registry
    tools: ToolHost
    runner: StepRunner
    fingerprints: Fingerprints
    parity: ParitySettings
    findings: Findings
    samples: Samples
    judge: Callable[[], Judge]
    opset: Callable[[str], int | None] = lambda _: None

    def prepared(self) -> Prepared:
        """Plans and runs the steps of all models; what fails is a finding."""
        made = Prepared()
        for name, section in self.sections.items():
            with self.findings.at(f"models.{name}.source"):
                for step in self._steps(name, section, made):
                    made.steps[step.id] = step
                    made.last[name] = step
        runs = self.runner.run(tuple(made.steps.values()), keep_going=True)
        made.runs = runs.done
        for id_, error in runs.failed.items():
            name, _, kind = id_.rpartition("/")
            self.findings.add(f"models.{name}.{'cut' if kind == 'cut' else 'source'}", error)
        self._check_declared(made)
        return made

    def _steps(self, name: str, section: ModelSection, made: Prepared) -> Iterable[Step]:
        source = self.sources.find(section.source, folders=True)
        row = Formats(self.registry, self.tools).reader(source.path, section.convert)
        declared = Declared(section.inputs)
        store = self.runner.store
        if row is None:
            made.files[name] = stamp_model(source, store, self.fingerprints)
            last = import_step(name, made.files[name], store, self.fingerprints, declared)
            yield last
        else:
            convert = section.convert
            conversion = conversion_of(
                name, row, source=source, stamp=stamp_source(source.path), files=self._files(section),
                section=convert, tools=self.tools, inputs=declared.specs(), opset=self.opset(name),
                samples=self.samples.of(name, section),
            )  # fmt: skip
            made.files[name] = _files_of(conversion)
            converted = convert_step(conversion, declared, store, self.fingerprints)
            yield converted
            last = check_step(
                conversion, converted, sample=section.sample, settings=self.parity, judge=self.judge(), store=store,
                core=self.fingerprints.core("onnx", "numpy"),
            )  # fmt: skip
            yield last
        if section.cut is not None:
            yield cut_step(
                name, section.cut, before=last, declared=declared, store=store, fingerprints=self.fingerprints
            )

    def _files(self, section: ModelSection) -> dict[str, tuple[SourceFile, Stamp]]:
        given = section.convert.files if section.convert else {}
        found = {key: self.sources.find(reference, folders=True) for key, reference in given.items()}
        return {key: (file, stamp_source(file.path)) for key, file in found.items()}

    # What the author says of inputs ---------------------------------------------------------------------------------
    def _check_declared(self, made: Prepared) -> None:
        for name, run in made.imports.items():
            section, specs = self.sections[name], {spec.name: spec for spec in Imported(run.result).inputs}
            for tensor, shape in section.sample.items():
                if tensor not in specs:
                    self._unknown(f"models.{name}.sample.{tensor}", tensor, specs)
                elif reason := shape_problem(specs[tensor], shape):
                    self._problem(f"models.{name}.sample.{tensor}", f"the shape {list(shape)} {reason}")
            whole = {spec.name for step in made.steps.values() if step.id.rpartition("/")[0] == name
                     for spec in Imported(made.runs[step.id].result).inputs}  # fmt: skip
            for tensor in section.inputs:
                if tensor not in whole:
                    self._unknown(f"models.{name}.inputs.{tensor}", tensor, specs)

    def _unknown(self, path: str, tensor: str, have: Iterable[str]) -> None:
        self._problem(path, f"the model has no input {tensor!r}, expected one of {', '.join(have)}")

    def _problem(self, path: str, message: str) -> None:
        problem = Problem(path=path, message=message)
        self.findings.add(path, DocumentError("a problem with this recipe", problems=[problem]))


def _files_of(conversion: Conversion) -> ModelFiles:
    others = (*conversion.files.values(), *conversion.samples)
    return ModelFiles(
        source=conversion.source, stamp=conversion.stamp, external={}, format=conversion.row.info.reads[0],
        others=tuple((file.reference, stamp) for file, stamp in others),
    )  # fmt: skip
