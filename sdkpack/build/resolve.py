"""From a recipe to a plan: every choice made, every file found and hashed, every pipeline checked.

The models' inputs and outputs are known only from the models, so the import steps run here, through the store. All
that is wrong with the recipe is told at once.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkpack.build.assets import Assets
from sdkpack.build.digests import FileStamp, stamp_file
from sdkpack.build.findings import Findings
from sdkpack.build.fingerprint import Fingerprints, needed_distributions
from sdkpack.build.guard.judges import LazyJudge
from sdkpack.build.load import LoadedRecipe
from sdkpack.build.models import RESOLVING, Models, Prepared
from sdkpack.build.names import check_names
from sdkpack.build.runner import Step, StepRun, StepRunner
from sdkpack.build.samples import Samples
from sdkpack.build.sources import SourceFile, Sources
from sdkpack.build.stages import Stages
from sdkpack.build.steps.absorbing import absorbable_steps
from sdkpack.build.steps.calibration import ModelSample
from sdkpack.build.steps.compiling import (
    Compilation,
    Target,
    Toolchain,
    check_opset,
    compile_step,
    find_toolchain,
    joint_steps,
)
from sdkpack.build.steps.golden import golden_step, pipeline_golden_step
from sdkpack.build.steps.importing import Imported, ModelFiles
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.steps.variants import Opener
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.plan import Plan, PlanInput
from sdkpack.documents.recipe import ModelSection, NoticeSection, PipelineSection, Recipe
from sdkpack.errors import FileError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost

if TYPE_CHECKING:
    from sdkpack.pipeline.nodes import ModelSignature
    from sdkpack.pipeline.run import CheckedPipeline

__all__ = ["NoticeFile", "Resolution", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeFile:
    """A notice of the recipe and, where it names one, its file."""

    section: NoticeSection
    source: SourceFile | None = None
    stamp: FileStamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A plan and what is needed to carry it out on this machine."""

    plan: Plan
    loaded: LoadedRecipe
    models: Mapping[str, ModelFiles]
    done: Mapping[str, StepRun]
    """By id, the steps that ran already."""
    imports: Mapping[str, StepRun]
    """By model, the one of them whose result is the model."""
    steps: tuple[Step, ...]
    """What remains to be run."""
    targets: Mapping[str, tuple[str, ...]]
    """Per model, the targets that it gets a variant for."""
    toolchains: Mapping[str, Toolchain]
    """Per target."""
    checked: Mapping[str, CheckedPipeline]
    assets: Assets
    notices: tuple[NoticeFile, ...]
    rows: tuple[Registered[Any], ...]
    """Descriptors of the runtimes and operators in use."""

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe


def resolve(
    loaded: LoadedRecipe,
    *,
    registry: Registry,
    runner: StepRunner,
    package_paths: Sequence[Path] = (),
    parity: ParitySettings | None = None,
) -> Resolution:
    """Makes the plan of a recipe.

    Args:
        loaded: the recipe.
        registry: the plugins in use.
        runner: runs the import steps; its store keeps their results.
        package_paths: folders of packages for `package://`.
        parity: how variants are compared with their sources.

    Raises:
        SdkpackError: anything is wrong with the recipe or with what it names; see `Findings`.
        InterruptedRunError: the user wants to stop.
    """
    sources = Sources(folder=loaded.folder, package_paths=tuple(path.absolute() for path in package_paths))
    return _Resolver(
        loaded=loaded, registry=registry, runner=runner, sources=sources, parity=parity or ParitySettings()
    ).resolution()


@dataclass(slots=True, kw_only=True)
class _Resolver:
    loaded: LoadedRecipe
    registry: Registry
    runner: StepRunner
    sources: Sources
    parity: ParitySettings
    findings: Findings = field(init=False)
    tools: ToolHost = field(init=False)
    samples: Samples = field(init=False)
    judge: LazyJudge = field(init=False)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    inputs: dict[str, PlanInput] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.findings = Findings(self.loaded.name)
        self.samples = Samples(self.sources, self.runner.store, self.registry)
        self.tools = ToolHost(
            environ=self.runner.environment,
            tell=self.runner.reporter.warned,
            cancelled=self.runner.cancel.is_set,
            progress=self.runner.reporter.progressed,
        )
        self.judge = LazyJudge(self.registry, self.tools)

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    def resolution(self) -> Resolution:
        check_names(self.recipe, self.findings)
        for path in self.sources.package_paths:
            if not path.is_dir():
                self.findings.add("", FileError(f"the package path '{path}' is no folder", hint="see --package-path"))
        toolchains = self._toolchains()
        targets = {name: self._targets_of(section) for name, section in self.recipe.models.items()}
        prepared = self._models(targets, toolchains)
        imports = prepared.imports
        metadata = {name: Imported(run.result).metadata for name, run in imports.items()}
        assets = Assets(sources=self.sources, store=self.runner.store, metadata=metadata)
        pipelines, checked = self._pipelines(imports, assets)
        self._compile_steps(prepared, targets, toolchains, checked)
        self._pipeline_steps(pipelines, checked, targets, assets)
        notices = tuple(self._notice(number, section) for number, section in enumerate(self.recipe.notices))
        self._check_releases()
        self.findings.raise_any()
        rows = self._rows(toolchains, pipelines)
        plan = self._plan(imports, pipelines, assets, rows)
        return Resolution(
            plan=plan, loaded=self.loaded, models=prepared.files, done=prepared.runs, imports=imports,
            targets=targets, steps=tuple(step for step in self.steps.values() if step.plan.kind not in RESOLVING),
            toolchains=toolchains, checked=checked, assets=assets, notices=notices, rows=rows,
        )  # fmt: skip

    # Targets and models -------------------------------------------------------------------------------------------
    def _toolchains(self) -> dict[str, Toolchain]:
        found: dict[str, Toolchain] = {}
        for name, section in self.recipe.targets.items():
            with self.findings.at(f"targets.{name}.runtime"):
                found[name] = find_toolchain(section.runtime, self.registry, self.tools)
        return found

    def _targets_of(self, section: ModelSection) -> tuple[str, ...]:
        return tuple(self.recipe.targets) if section.targets is None else section.targets

    def _models(self, targets: Mapping[str, tuple[str, ...]], toolchains: Mapping[str, Toolchain]) -> Prepared:
        def newest(model: str) -> int | None:
            infos = (toolchains[name].row.info for name in targets[model] if name in toolchains)
            return min((info.opsets[1] for info in infos if info.opsets is not None), default=None)

        prepared = Models(
            sections=self.recipe.models, sources=self.sources, registry=self.registry, tools=self.tools,
            runner=self.runner, fingerprints=self.fingerprints, parity=self.parity, findings=self.findings,
            samples=self.samples, judge=self.judge, opset=newest,
        ).prepared()  # fmt: skip
        self.steps |= prepared.steps
        for files in prepared.files.values():
            self.inputs |= files.plan_inputs()
        return prepared

    def _compile_steps(
        self,
        models: Prepared,
        targets: Mapping[str, tuple[str, ...]],
        toolchains: Mapping[str, Toolchain],
        checked: Mapping[str, CheckedPipeline],
    ) -> None:
        imports = models.imports
        stages = Stages(
            defaults=self.recipe.defaults, samples=self.samples, noted=self._noted, registry=self.registry,
            tools=self.tools, store=self.runner.store, fingerprints=self.fingerprints, parity=self.parity,
            findings=self.findings, judge=self.judge, steps=self.steps,
        )  # fmt: skip
        samples = {model: self._model_samples(model) for model in imports}
        for name, toolchain in toolchains.items():
            mine = []
            for model in (model for model in imports if name in targets[model]):
                section = self.recipe.models[model]
                if stages.optimization(section) is None:
                    with self.findings.at(f"models.{model}"):
                        check_opset(model, Imported(imports[model].result), toolchain)
                step = stages.prepared(model, section, models.last[model], toolchain.row.info)
                if step is not None:
                    mine.append(Compilation(
                        model=model, imported=step.plan, cacheable=step.cacheable, sample=section.sample,
                        absorbable=absorbable_steps(model, checked), samples=samples[model],
                    ))  # fmt: skip
            if mine:
                self._compile_for(name, toolchain, mine)
        self._golden_steps(imports, targets)

    def _compile_for(self, name: str, toolchain: Toolchain, wanted: Sequence[Compilation]) -> None:
        target = Target(
            name=name, settings=self.recipe.targets[name], toolchain=toolchain, store=self.runner.store,
            registry=self.registry, fingerprints=self.fingerprints, parity=self.parity,
        )  # fmt: skip
        with self.findings.at(f"targets.{name}"):
            steps = joint_steps(wanted, target) if target.joint else [compile_step(one, target) for one in wanted]
            self.steps |= {step.id: step for step in steps}

    def _golden_steps(self, imports: Mapping[str, StepRun], targets: Mapping[str, tuple[str, ...]]) -> None:
        opener = Opener(self.runner.store, self.registry)
        for model in imports:
            ready = [self.steps[id_] for name in targets[model] if (id_ := f"{model}/compile/{name}") in self.steps]
            for first in ready[:1]:
                golden = golden_step(
                    model, compiled=first.plan, seed=self.parity.seed, store=self.runner.store, opener=opener,
                    fingerprint=self.fingerprints.core("numpy"), cacheable=first.cacheable,
                )  # fmt: skip
                self.steps[golden.id] = golden

    def _model_samples(self, model: str) -> tuple[ModelSample, ...]:
        with self.findings.at(f"models.{model}.samples"):
            found = self.samples.of(model, self.recipe.models[model])
            for source, stamp in found:
                self._noted(source, stamp)
            return found
        return ()

    # Pipelines ----------------------------------------------------------------------------------------------------
    def _pipelines(
        self, imports: Mapping[str, StepRun], assets: Assets
    ) -> tuple[dict[str, Pipeline], dict[str, CheckedPipeline]]:
        from sdkpack.pipeline.check import check
        from sdkpack.pipeline.normalize import normalize

        signatures = {name: _signature(Imported(run.result)) for name, run in imports.items()}
        failed = set(self.recipe.models) - set(imports)
        pipelines: dict[str, Pipeline] = {}
        checked: dict[str, CheckedPipeline] = {}
        for name, section in self.recipe.pipelines.items():
            # What is wrong with a model would be told again, as a pipeline's fault.
            if any(step.model in failed for step in section.steps):
                continue
            with self.findings.at(f"pipelines.{name}"):
                pipeline = normalize(
                    name, section, registry=self.registry, models=signatures, assets=assets, read=assets.read
                )
                checked[name] = check(name, pipeline, registry=self.registry, models=signatures, assets=assets.read)
                pipelines[name] = pipeline
        return pipelines, checked

    def _pipeline_steps(
        self,
        pipelines: Mapping[str, Pipeline],
        checked: Mapping[str, CheckedPipeline],
        targets: Mapping[str, tuple[str, ...]],
        assets: Assets,
    ) -> None:
        opener = Opener(self.runner.store, self.registry)
        samples = {name: self._samples(name, section) for name, section in self.recipe.pipelines.items()}
        for name, pipeline in pipelines.items():
            used = sorted({step.model for step in pipeline.steps if step.model is not None})
            compiled = {m: step for m in used if (step := self.steps.get(f"{m}/compile/{next(iter(targets[m]), '')}"))}
            if len(compiled) != len(used):
                continue  # a target failed; that is told already
            for number, files in enumerate(samples[name]):
                step = pipeline_golden_step(
                    name, number, pipeline=pipeline, checked=checked[name], samples=files,
                    compiled={m: step.plan for m, step in compiled.items()},
                    assets={path: assets.files[path].digest for path in _assets_of(pipeline)},
                    fingerprint=self._pipeline_fingerprint(pipeline), store=self.runner.store, opener=opener,
                    cacheable=all(step.cacheable for step in compiled.values()),
                )  # fmt: skip
                self.steps[step.id] = step

    def _samples(self, name: str, section: PipelineSection) -> list[dict[str, tuple[SourceFile, FileStamp]]]:
        rows: list[dict[str, tuple[SourceFile, FileStamp]]] = []
        for number, sample in enumerate(section.samples):
            given = sample if isinstance(sample, dict) else {next(iter(section.inputs)): sample}
            files: dict[str, tuple[SourceFile, FileStamp]] = {}
            for key, reference in given.items():
                with self.findings.at(f"pipelines.{name}.samples[{number}]"):
                    source = self.sources.find(reference)
                    files[key] = (source, self._stamped(source))
            if len(files) == len(given):
                rows.append(files)
        return rows

    def _pipeline_fingerprint(self, pipeline: Pipeline) -> str:
        rows = self._operator_rows(pipeline)
        plugins = sorted({self.fingerprints.plugin(row.plugin) for row in rows})
        versions = [f"{name} {version}" for name, version in needed_distributions(rows).items()]
        return "; ".join([self.fingerprints.core("numpy"), *plugins, *versions])

    def _operator_rows(self, pipeline: Pipeline) -> list[Registered[Any]]:
        names = sorted({step.op for step in pipeline.steps if step.op is not None})
        split = (name.rpartition("/") for name in names)
        return [self.registry.operator(name, int(version)) for name, _, version in split]

    # The rest -----------------------------------------------------------------------------------------------------
    def _notice(self, number: int, section: NoticeSection) -> NoticeFile:
        if section.file is None:
            return NoticeFile(section=section)
        with self.findings.at(f"notices[{number}].file"):
            source = self.sources.find(section.file)
            return NoticeFile(section=section, source=source, stamp=self._stamped(source))
        return NoticeFile(section=section)

    def _check_releases(self) -> None:
        for name, settings in self.recipe.release.items():
            with self.findings.at(f"release.{name}"):
                row = self.registry.exporter(str(settings.get("exporter", name)))
                params = {key: value for key, value in settings.items() if key != "exporter"}
                ParamSchema(row.info).instance(params, path=f"release.{name}")

    def _stamped(self, source: SourceFile) -> FileStamp:
        stamp = stamp_file(source.path)
        self._noted(source, stamp)
        return stamp

    def _noted(self, source: SourceFile, stamp: FileStamp) -> None:
        self.inputs[source.reference] = PlanInput(
            reference=source.reference, digest=stamp.digest, size_bytes=stamp.size_bytes
        )

    def _rows(
        self, toolchains: Mapping[str, Toolchain], pipelines: Mapping[str, Pipeline]
    ) -> tuple[Registered[Any], ...]:
        rows: list[Registered[Any]] = [toolchain.row for toolchain in toolchains.values()]
        for pipeline in pipelines.values():
            rows += self._operator_rows(pipeline)
        return tuple({(type(row.info), row.info.name): row for row in rows}.values())

    def _plan(
        self,
        imports: Mapping[str, StepRun],
        pipelines: Mapping[str, Pipeline],
        assets: Assets,
        rows: tuple[Registered[Any], ...],
    ) -> Plan:

        return Plan(
            plan=1,
            sdkpack=importlib.metadata.version("sdkpack"),
            bundle=self.recipe.bundle,
            inputs=self.inputs | assets.inputs,
            steps=tuple(step.plan for step in self.steps.values()),
            pipelines=dict(pipelines),
            plugins=needed_distributions(rows),
            encrypt=self.recipe.encrypt,
            sign=self.recipe.sign,
            release=self.recipe.release,
        )


def _signature(imported: Imported) -> ModelSignature:
    from sdkpack.pipeline.nodes import ModelSignature

    return ModelSignature(inputs=imported.inputs, outputs=imported.outputs)


def _assets_of(pipeline: Pipeline) -> list[str]:
    from sdkpack.pipeline.operators import asset_path

    values = (value for step in pipeline.steps for value in step.params.values())
    return sorted({path for value in values if (path := asset_path(value))})
