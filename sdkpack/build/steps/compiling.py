"""Compile: models for one target, and the comparison of what came out with what went in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.absorbing import NOTHING, Absorbable
from sdkpack.build.steps.calibration import ModelSample, lay_out
from sdkpack.build.steps.compiled import Answer, check_fit
from sdkpack.build.steps.importing import FORMAT, Imported
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, check_parity
from sdkpack.build.steps.prior import Prior
from sdkpack.build.steps.variants import Opener
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.documents.plan import PlanStep
from sdkpack.documents.recipe import TargetSection
from sdkpack.errors import PluginError, PluginMissingError, StepError, UsageError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.model.join import join_external, join_inline
from sdkpack.model.table import read_table
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import Compiler, CompileRequest, ModelInput

__all__ = [
    "Compilation",
    "Target",
    "Toolchain",
    "check_opset",
    "compile_step",
    "find_toolchain",
    "joint_steps",
    "model_input",
]

_JOINT: Final = "compile.joint"
_INLINE_BELOW_BYTES: Final = 256 << 20
"""A model with weights beyond this gets them in a file beside it: well below protobuf's 2 GiB, and one copy in memory
less for whoever loads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A runtime's compiler, ready to work."""

    row: Registered[RuntimeInfo]
    compiler: Compiler
    fingerprint: str
    """Empty where the tool has none; nothing that it makes is then reused."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """A compiler is called by one thread at a time."""

    @property
    def name(self) -> str:
        return self.row.info.name


def find_toolchain(runtime: str, registry: Registry, tools: ToolHost) -> Toolchain:
    """The compiler half of a runtime.

    Raises:
        PluginError: there is none, or what it needs is missing; the hint says how to get it.
    """
    row = registry.runtime(runtime)
    half = row.info.compiler
    if half is None:
        raise PluginMissingError(
            f"runtime {runtime!r} has no compiler half: it runs models and cannot prepare them",
            hint="name another runtime for this target",
        )
    compiler: Compiler = tools.open(row, half)
    probe = compiler.probe()
    if not probe.ok:
        raise PluginError(f"runtime {runtime!r} cannot compile here: {probe.missing or 'no reason given'}",
                          hint=probe.mend)  # fmt: skip
    return Toolchain(row=row, compiler=compiler, fingerprint=probe.fingerprint)


def check_opset(model: str, imported: Imported, toolchain: Toolchain) -> None:
    """
    Raises:
        StepError: the model's operators are of another version than the runtime says that it takes.
    """
    window, have = toolchain.row.info.opsets, dict(imported.opsets).get("")
    if window is None or have is None or window[0] <= have <= window[1]:
        return
    near = window[1] if have > window[1] else window[0]
    converted = imported.result.data["format"] != FORMAT
    raise StepError(
        f"runtime {toolchain.name!r} cannot compile {model!r}: its operators are of opset {have}, "
        f"expected {window[0]} to {window[1]}",
        hint=f"models.{model}.convert.opset = {near}" if converted else
        f"export it with opset {near}, or bring it there with onnx.version_converter.convert_version",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """One model for one target: what is compiled, and from what."""

    model: str
    imported: PlanStep
    """The import, or the step after it that changed the model."""
    cacheable: bool = True
    """Whether that step's result is the same each time."""
    absorbable: Absorbable = NOTHING
    samples: tuple[ModelSample, ...] = ()
    sample: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of the inputs of the comparison."""

    def as_json(self) -> dict[str, Any]:
        """For a step's key; absent what plays no part, so that it does not matter."""
        facts: dict[str, Any] = {}
        if self.absorbable.before or self.absorbable.after:
            facts["absorbable"] = self.absorbable.as_json()
        if self.samples:
            facts["samples"] = [stamp.digest for _, stamp in self.samples]
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where models are compiled for, and with what."""

    name: str
    settings: TargetSection
    toolchain: Toolchain
    store: Store
    registry: Registry
    fingerprints: Fingerprints
    parity: ParitySettings

    @property
    def joint(self) -> bool:
        """Whether the compiler takes all models at once."""
        return _JOINT in self.toolchain.row.info.capabilities

    def params(self) -> tuple[Any, dict[str, Any]]:
        """The runtime's params, and all settings as JSON.

        Raises:
            UsageError: the runtime does not offer the precision.
            DocumentError: the runtime refuses its settings.
        """
        info, settings = self.toolchain.row.info, self.settings
        _check_precision(info, settings.precision)
        schema = ParamSchema(info)
        params = schema.instance(settings.params, path=f"targets.{self.name}.with")
        facts = {
            "with": schema.dump(params), "precision": settings.precision, "shapes": dict(settings.shapes),
            "parity": self.parity.as_json(),
        }  # fmt: skip
        gates = {"budget": settings.budget, "min_offload": settings.min_offload}
        return params, facts | {name: value for name, value in gates.items() if value is not None}

    def fingerprint(self) -> str:
        tool = f"{self.fingerprints.plugin(self.toolchain.row.plugin)}; {self.toolchain.fingerprint}"
        return f"{tool}; {self.fingerprints.core('onnx', 'numpy')}"

    def step(
        self, id_: str, params: Mapping[str, Any], after: tuple[PlanStep, ...], work: _Work | _Check, *, cacheable: bool
    ) -> Step:
        plan = plan_step(
            id=id_, kind="compile", plugin=self.toolchain.name, fingerprint=self.fingerprint(), params=params,
            after=after, deterministic=self.toolchain.row.info.deterministic,
        )  # fmt: skip
        after_ids = tuple(step.id for step in after)
        return Step(plan=plan, work=work, after=after_ids, cacheable=cacheable and bool(self.toolchain.fingerprint))


def compile_step(wanted: Compilation, target: Target) -> Step:
    """The step that prepares a model for a target and holds the result against the source.

    Raises:
        UsageError: the runtime does not offer the precision.
        DocumentError: the runtime refuses its settings.
    """
    params, facts = target.params()
    facts |= {"sample": {name: list(shape) for name, shape in wanted.sample.items()}} | wanted.as_json()
    id_ = f"{wanted.model}/compile/{target.name}"
    work = _Work(target=target, wanted=(wanted,), params=params)
    return target.step(id_, facts, (wanted.imported,), work, cacheable=wanted.cacheable)


def joint_steps(wanted: Sequence[Compilation], target: Target) -> tuple[Step, ...]:
    """The step that prepares several models together, and for each model the one that compares it.

    Raises:
        UsageError: as `compile_step`; and DocumentError.
    """
    params, facts = target.params()
    # Names are part of the key: compilers give them to the entries of a common file.
    models = {one.model: one.as_json() for one in wanted}
    work = _Work(target=target, wanted=tuple(wanted), params=params)
    joint = target.step(
        f"compile/{target.name}", facts | {"models": models}, tuple(one.imported for one in wanted), work,
        cacheable=all(one.cacheable for one in wanted),
    )  # fmt: skip
    return (joint, *(_check_step(one, target, joint, facts) for one in wanted))


def _check_step(wanted: Compilation, target: Target, joint: Step, facts: Mapping[str, Any]) -> Step:
    mine = {"sample": {name: list(shape) for name, shape in wanted.sample.items()}, "model": wanted.model}
    work = _Check(target=target, wanted=wanted, joint=joint.id)
    id_ = f"{wanted.model}/compile/{target.name}"
    return target.step(id_, {**facts, **mine}, (wanted.imported, joint.plan), work, cacheable=joint.cacheable)


def _check_precision(info: RuntimeInfo, precision: str) -> None:
    if precision not in info.precisions:
        raise UsageError(
            f"runtime {info.name!r} has no precision {precision!r}, expected {' or '.join(info.precisions)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Compiles; a single model is compared in the same step."""

    target: Target
    wanted: tuple[Compilation, ...]
    params: Any

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        imported = {one.model: Imported(results[one.imported.id]) for one in self.wanted}
        for model, one in imported.items():
            check_opset(model, one, self.target.toolchain)
        context.progress(None, "preparing the model")
        sources = {
            one.model: model_input(
                one.model, imported[one.model], self.target.store, context.aside(f"model-{one.model}"), one.absorbable
            )
            for one in self.wanted
        }
        compiled = self._compiled(sources, imported, context)
        if self.target.joint:
            return _joined(compiled)
        (wanted,) = self.wanted
        check = _Check(target=self.target, wanted=wanted, joint="")
        return check.compared(compiled[wanted.model], imported[wanted.model], context)

    def _compiled(
        self, sources: Mapping[str, ModelInput], imported: Mapping[str, Imported], context: BuildContext
    ) -> dict[str, StoredResult]:
        target, settings = self.target, self.target.settings
        prior = Prior(target.toolchain.name, target.name, tuple(one.imported.key for one in self.wanted), target.store)
        samples = {
            one.model: lay_out(one.samples, imported[one.model].inputs, context.aside(f"samples-{one.model}"))
            for one in self.wanted
            if one.samples
        }
        request = CompileRequest(
            models=tuple(sources.values()), target=target.name, params=self.params, precision=settings.precision,
            samples=samples, budget=settings.budget, shapes=dict(settings.shapes), prior=prior.laid_out(context),
        )  # fmt: skip
        context.progress(None, f"compiling for {target.toolchain.name}")
        with target.toolchain.lock:
            context.check_cancelled()
            result = target.toolchain.compiler.compile(request, context)
        answer = Answer(
            runtime=target.toolchain.name, sources=sources, shapes=settings.shapes,
            absorbable={one.model: one.absorbable for one in self.wanted}, min_offload=settings.min_offload,
            precision=settings.precision,
            given={name: str(one.result.data.get("precision", "float32")) for name, one in imported.items()},
        )  # fmt: skip
        known = {
            path: imported[name].result.files[role]
            for name, source in sources.items()
            for role, path in (("graph", source.graph), ("weights", source.weights), ("tensors", source.tensors))
        }
        stored: dict[str, StoredResult] = {}
        for name, model in answer.models(result).items():
            files, data = answer.store(model, known, target.store, context)
            stored[name] = StoredResult(files=files, data=data)
        prior.keep(result.prior, context)
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """Compares one compiled model with its source."""

    target: Target
    wanted: Compilation
    joint: str

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        compiled = _apart(results[self.joint], self.wanted.model)
        return self.compared(compiled, Imported(results[self.wanted.imported.id]), context)

    def compared(self, result: StoredResult, imported: Imported, context: BuildContext) -> StoredResult:
        """The same result with its evidence."""
        target, wanted = self.target, self.wanted
        context.progress(None, "comparing with the source")
        segment = wanted.absorbable.chosen(tuple(result.data["absorbed"])) or NOTHING
        samples: tuple[Path, ...] = ()
        if wanted.samples and not result.data["absorbed"]:
            samples = lay_out(wanted.samples[:1], imported.inputs, context.aside(f"compared-{wanted.model}"))
        evidence, sample = check_parity(
            imported, result, opener=Opener(target.store, target.registry), model=wanted.model, sample=wanted.sample,
            settings=target.parity, runtime=target.toolchain, context=context, store=target.store, segment=segment,
            real=samples,
        )  # fmt: skip
        check_fit(result.data, target.registry)
        tolerances = [tensor["tolerance"] for finding in evidence for tensor in finding["tensors"]]
        facts = {
            **result.data,
            "evidence": [*imported.result.data.get("evidence", ()), *evidence],
            "isolation": context.isolation,
            "sample": sample,
            "ranges": imported.result.data.get("ranges", {}),
            "tolerance": max(tolerances, default=0.0),
        }
        return StoredResult(files=result.files, data=facts)


def _joined(compiled: Mapping[str, StoredResult]) -> StoredResult:
    return StoredResult(
        files={f"{model}/{name}": file for model, one in compiled.items() for name, file in one.files.items()},
        data={model: one.data for model, one in compiled.items()},
    )


def _apart(joined: StoredResult, model: str) -> StoredResult:
    begin = f"{model}/"
    files = {name.removeprefix(begin): file for name, file in joined.files.items() if name.startswith(begin)}
    return StoredResult(files=files, data=joined.data[model])


def model_input(
    name: str, imported: Imported, store: Store, folder: Path, absorbable: Absorbable = NOTHING
) -> ModelInput:
    """A model of the store as plugins get it; the complete file is written into `folder`."""
    files = imported.result.files
    graph, weights, tensors = (store.path(files[role].digest) for role in ("graph", "weights", "tensors"))
    before, after = absorbable.offered()
    return ModelInput(
        name=name, path=_whole_model(store, files, folder), graph=graph, weights=weights, tensors=tensors,
        inputs=imported.inputs, outputs=imported.outputs, operators_before=before, operators_after=after,
    )  # fmt: skip


def _whole_model(store: Store, files: Mapping[str, StoredFile], folder: Path) -> Path:
    """Writes the model as one that any ONNX library loads."""
    graph = store.read(files["graph"])
    weights = files["weights"]
    table = read_table(store.read(files["tensors"]), weights.size_bytes)
    path = folder / "model.onnx"
    if weights.size_bytes + len(graph) < _INLINE_BELOW_BYTES:
        with path.open("wb") as out:
            out.writelines(join_inline(graph, table, store.read(weights)))
    else:
        # A copy, not a link: ONNX libraries refuse linked external data, and for good reason.
        shutil.copyfile(store.path(weights.digest), folder / "model.weights")
        path.write_bytes(join_external(graph, table, "model.weights"))
    return path
