"""The stages between a model and what is compiled of it: optimise, for what a target takes, and compress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sdkpack.build.digests import FileStamp
from sdkpack.build.findings import Findings
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.guard.checks import Allowed
from sdkpack.build.guard.judges import Judge
from sdkpack.build.guard.passes import choose_passes
from sdkpack.build.runner import Step
from sdkpack.build.samples import Samples
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.compressing import NONE, compress_step
from sdkpack.build.steps.optimizing import optimize_step
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.store import Store
from sdkpack.documents.recipe import DefaultsSection, ModelSection, OptimizeSection
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.info import RuntimeInfo

__all__ = ["Stages"]

_NO_STAGE = "none"


@dataclass(slots=True, kw_only=True)
class Stages:
    """Plans the stages of models.

    Args:
        defaults: the recipe's.
        samples: finds the models' real inputs.
        noted: notes a file as an input of the plan.
        registry: the plugins in use.
        tools: where toolchains run.
        store: keeps what steps make.
        fingerprints: of this build.
        parity: how results are compared.
        findings: gets everything that is wrong.
        judge: runs models to compare them.
        steps: gets the steps, by id.
    """

    defaults: DefaultsSection
    samples: Samples
    noted: Callable[[SourceFile, FileStamp], None]
    registry: Registry
    tools: ToolHost
    store: Store
    fingerprints: Fingerprints
    parity: ParitySettings
    findings: Findings
    judge: Callable[[], Judge]
    steps: dict[str, Step]
    _made: dict[tuple[str, Allowed | None], Step | None] = field(default_factory=dict)

    def prepared(self, model: str, section: ModelSection, last: Step, runtime: RuntimeInfo) -> Step | None:
        """The step whose result is compiled for a target; None where a stage is wrong, which is a finding then.

        Targets that take the same share their steps.

        Args:
            model: its name.
            section: of the model.
            last: the step whose result is the model.
            runtime: the target's, for what it takes.
        """
        optimize = self.optimization(section)
        allowed = None if optimize is None else _allowed(optimize, runtime)
        key = (model, allowed)
        if key not in self._made:
            # Mostly all targets take the same; where they do not, the later ones are told apart by number.
            number = sum(name == model for name, _ in self._made) + 1
            place = f"/{number}" if number > 1 else ""
            step: Step | None = last
            if optimize is not None and allowed is not None:
                step = self._optimized(f"{model}/optimize{place}", section, optimize, allowed, last)
            self._made[key] = None if step is None else self._compressed(f"{model}/compress{place}", section, step)
        return self._made[key]

    def optimization(self, section: ModelSection) -> OptimizeSection | None:
        """How a model is optimised, if at all."""
        found = section.optimize or self.defaults.optimize
        if found is None or (found.level == _NO_STAGE and not any(found.passes.values())):
            return None
        return found

    def _optimized(
        self, id_: str, section: ModelSection, optimize: OptimizeSection, allowed: Allowed, last: Step
    ) -> Step | None:
        path = f"models.{id_.partition('/')[0]}.optimize" if section.optimize else "defaults.optimize"
        with self.findings.at(path):
            passes = choose_passes(optimize, self.registry, self.tools, path=path)
            samples = self.samples.of(id_.partition("/")[0], section)
            step = optimize_step(
                id_, optimize, passes, allowed, before=last, judge=self.judge(), sample=section.sample,
                samples=samples, seed=self.parity.seed, store=self.store, fingerprints=self.fingerprints,
            )  # fmt: skip
            self.steps[step.id] = step
            return step
        return None

    def _compressed(self, id_: str, section: ModelSection, before: Step) -> Step | None:
        compress = section.compress or self.defaults.compress
        if compress is None or compress.scheme == NONE:
            return before
        model = id_.partition("/")[0]
        with self.findings.at(f"models.{model}.compress" if section.compress else "defaults.compress"):
            samples = self.samples.find(model, compress.samples, section.inputs)
            for source, stamp in samples:
                self.noted(source, stamp)
            step = compress_step(
                id_, compress, samples=samples, sample=section.sample,
                imported=before, registry=self.registry, tools=self.tools, store=self.store,
                fingerprints=self.fingerprints, parity=self.parity,
            )  # fmt: skip
            self.steps[step.id] = step
            return step
        return None


def _allowed(section: OptimizeSection, runtime: RuntimeInfo) -> Allowed:
    opsets = runtime.opsets if section.opset is None else (section.opset, section.opset)
    return Allowed(
        opsets=opsets, domains=section.domains, operators=frozenset(runtime.operators), max_error=section.max_error
    )
