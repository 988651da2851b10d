"""From a carried-out plan to the manifest and the files of its bundle. Nothing here depends on machine or day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from sdkpack.build.fingerprint import needed_distributions
from sdkpack.build.resolve import NoticeFile, Resolution
from sdkpack.build.runner import StepRun
from sdkpack.build.steps.golden import recorded
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.variants import bundle_files, variant_of
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.documents.manifest import (
    Golden,
    Manifest,
    ModelEntry,
    ModelSource,
    Notice,
    PipelineGolden,
    TensorEntry,
    Variant,
)
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.recipe import BundleSection
from sdkpack.errors import InternalError
from sdkpack.host.registry import Registry

__all__ = ["Packable", "make_manifest"]

_METADATA_CHARS: Final = 1024
"""Longer values, an alphabet say, are for `model-metadata://` assets and not for the manifest."""

_CHECKS: Final = {"check": "conversion", "optimize": "optimization", "compress": "loss"}
"""Kind of step -> the check of its evidence."""
_PORTABLE: Final = "application/vnd.onnx"
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class Packable:
    """A manifest, and every file that it names."""

    manifest: Manifest
    files: dict[str, StoredFile]
    """By name in the bundle."""


def make_manifest(resolution: Resolution, runs: Mapping[str, StepRun], registry: Registry, store: Store) -> Packable:
    """Says what the bundle is.

    Args:
        resolution: the plan.
        runs: every step of it, carried out, by id.
        registry: tells where runtimes work.
        store: gets the notices' files.
    """
    return _Maker(resolution=resolution, runs=runs, registry=registry, store=store).packable()


@dataclass(slots=True, kw_only=True)
class _Maker:
    resolution: Resolution
    runs: Mapping[str, StepRun]
    registry: Registry
    store: Store
    files: dict[str, StoredFile] = field(default_factory=dict)

    def packable(self) -> Packable:
        plan = self.resolution.plan
        models = {name: self._model(name) for name in self.resolution.recipe.models}
        self.files |= self.resolution.assets.files
        goldens = {name: rows for name, pipeline in plan.pipelines.items() if (rows := self._goldens(name, pipeline))}
        section: BundleSection = plan.bundle
        manifest = Manifest(
            manifest=1,
            name=section.name,
            version=section.version,
            sequence=section.sequence,
            license=section.license,
            summary=section.summary,
            models=models,
            pipelines=plan.pipelines,
            goldens=goldens,
            plugins=self._plugins(models),
            notices=(*self._model_notices(), *map(self._notice, self.resolution.notices)),
            metadata=section.metadata,
        )
        if manifest.files() != set(self.files):
            odd = sorted(manifest.files() ^ set(self.files))
            raise InternalError(f"the manifest and the files to be packed differ in {', '.join(odd[:5])}")
        return Packable(manifest, self.files)

    def _model(self, name: str) -> ModelEntry:
        files = self.resolution.models[name]
        imported = Imported(self.resolution.imports[name].result)
        variants = tuple(self._variant(name, target) for target in self.resolution.targets[name])
        return ModelEntry(
            inputs=tuple(TensorEntry.of(spec) for spec in imported.inputs),
            outputs=tuple(TensorEntry.of(spec) for spec in imported.outputs),
            source=ModelSource(
                reference=files.source.reference,
                digest=files.stamp.digest,
                size_bytes=files.stamp.size_bytes,
                format=files.format,
            ),
            metadata={key: value for key, value in imported.metadata.items() if len(value) <= _METADATA_CHARS},
            variants=variants,
            golden=self._golden(name, variants),
        )

    def _variant(self, model: str, target: str) -> Variant:
        step = f"{model}/compile/{target}"
        result = self.runs[step].result
        folder = f"models/{model}/{target}"
        self.files |= bundle_files(result, folder)
        platforms = self._platforms(result)
        portable = len(result.data["parts"]) == 1 and all(
            file.media_type.startswith(_PORTABLE) for file in result.files.values()
        )
        return variant_of(
            result, target=target, folder=folder, step=step, earlier=self._earlier(step), portable=portable,
            platforms=platforms,
        )  # fmt: skip

    def _earlier(self, step: str) -> dict[str, str]:
        """The steps before one that leave evidence, by what they check."""
        by_id = {one.id: one for one in self.resolution.plan.steps}
        found: dict[str, str] = {}
        stack = [step]
        while stack:
            one = by_id[stack.pop()]
            if one.kind in _CHECKS and one.id.partition("/")[0] == step.partition("/")[0]:
                found[_CHECKS[one.kind]] = one.id
            stack += [id_ for id_ in one.inputs if id_ in by_id]
        return found

    def _platforms(self, result: StoredResult) -> tuple[str, ...]:
        """Where the first part's runtime works; the others' are asked for when the variant is chosen."""
        return self.registry.runtime(result.data["parts"][0]["runtime"]).info.platforms

    def _golden(self, model: str, variants: tuple[Variant, ...]) -> Golden | None:
        result = self.runs[f"{model}/golden"].result
        if not recorded(result):
            return None
        folder = f"goldens/models/{model}"
        self.files |= {f"{folder}/{role}.npz": result.files[role] for role in ("inputs", "outputs")}
        return Golden(
            inputs=f"{folder}/inputs.npz",
            outputs=f"{folder}/outputs.npz",
            tolerance=self._tolerance(model, variants),
        )

    def _tolerance(self, model: str, variants: tuple[Variant, ...]) -> float:
        """What the loosest variant may differ by, or what was measured to be needed for the recorded input."""
        steps = (f"{model}/compile/{variant.target}" for variant in variants)
        measured = max(self.runs[step].result.data["tolerance"] for step in steps)
        return float(max(measured, *(tolerance_for(variant.precision) for variant in variants)))

    def _goldens(self, name: str, pipeline: Pipeline) -> tuple[PipelineGolden, ...]:
        models = {step.model for step in pipeline.steps if step.model is not None}
        precisions = {self.runs[f"{m}/compile/{t}"].result.data["precision"]
                      for m in models for t in self.resolution.targets[m]}  # fmt: skip
        tolerance = max((tolerance_for(precision) for precision in precisions), default=tolerance_for("float32"))
        rows = []
        for number in range(len(self.resolution.recipe.pipelines[name].samples)):
            result = self.runs[f"{name}/golden/{number}"].result
            folder = f"goldens/pipelines/{name}/{number}"
            inputs = {role.removeprefix("inputs/"): f"{folder}/{role}"
                      for role in result.files if role.startswith("inputs/")}  # fmt: skip
            self.files |= {f"{folder}/{role}": file for role, file in result.files.items() if role != "outputs"}
            self.files[f"{folder}/outputs.json"] = result.files["outputs"]
            rows.append(PipelineGolden(inputs=inputs, outputs=f"{folder}/outputs.json", tolerance=tolerance))
        return tuple(rows)

    def _model_notices(self) -> tuple[Notice, ...]:
        models = self.resolution.recipe.models
        return tuple(Notice(title=f"model {name}", license=m.license) for name, m in models.items() if m.license)

    def _notice(self, notice: NoticeFile) -> Notice:
        title, licence = notice.section.title, notice.section.license
        if notice.source is None or notice.stamp is None:
            return Notice(title=title, license=licence)
        content = notice.source.path.read_bytes()
        notice.stamp.check_unchanged(notice.source.path)
        stored = self.store.put_bytes(content, "text/plain")
        plain = _FORBIDDEN.sub("-", PurePosixPath(notice.source.reference).name).strip(".-") or "notice"
        number = len([path for path in self.files if path.startswith("notices/")])
        path = f"notices/{number}/{plain}"
        self.files[path] = stored
        return Notice(title=title, license=licence, file=path)

    def _plugins(self, models: Mapping[str, ModelEntry]) -> dict[str, str]:
        """What running needs: the runtimes of all parts, a compiler's own remainder included, and the operators."""
        names = {part.runtime for model in models.values() for variant in model.variants for part in variant.parts}
        rows: list[Any] = [self.registry.runtime(name) for name in sorted(names)]
        return needed_distributions([*self.resolution.rows, *rows])
