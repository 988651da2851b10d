"""Compile: one model for one target, and the comparison of what came out with what went in."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, check_parity
from sdkpack.build.steps.variants import Opener
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.documents.manifest import TensorEntry
from sdkpack.documents.recipe import ModelSection, TargetSection
from sdkpack.errors import PluginBrokenError, PluginError, PluginMissingError, UsageError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.model.join import join_external, join_inline
from sdkpack.model.table import read_table
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import CompiledModel, Compiler, CompileRequest, CompileResult, ModelInput
from sdkpack.types import TensorSpec

__all__ = ["Toolchain", "compile_step", "find_toolchain", "model_input"]

# Roles become names of files in the bundle.
_ROLE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,16}")
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


def compile_step(
    model: str,
    target: str,
    *,
    section: ModelSection,
    settings: TargetSection,
    toolchain: Toolchain,
    imported: Step,
    store: Store,
    registry: Registry,
    fingerprints: Fingerprints,
    parity: ParitySettings,
) -> Step:
    """The step that prepares `model` for `target` and holds the result against the source.

    Raises:
        UsageError: the runtime does not offer the precision.
        DocumentError: the runtime refuses its settings.
    """
    info = toolchain.row.info
    _check_precision(info, settings.precision)
    schema = ParamSchema(info)
    params = schema.instance(settings.params, path=f"targets.{target}.with")
    tool = f"{fingerprints.plugin(toolchain.row.plugin)}; {toolchain.fingerprint}"
    plan = plan_step(
        id=f"{model}/compile/{target}",
        kind="compile",
        plugin=info.name,
        fingerprint=f"{tool}; {fingerprints.core('onnx', 'numpy')}",
        params={
            "with": schema.dump(params),
            "precision": settings.precision,
            "shapes": dict(settings.shapes),
            "sample": {name: list(shape) for name, shape in section.sample.items()},
            "parity": parity.as_json(),
        },
        after=(imported.plan,),
    )
    work = _Work(
        model=model, target=target, toolchain=toolchain, settings=settings, params=params, imported=imported.id,
        sample=section.sample, store=store, registry=registry, parity=parity,
    )  # fmt: skip
    cacheable = bool(toolchain.fingerprint) and imported.cacheable
    return Step(plan=plan, work=work, after=(imported.id,), cacheable=cacheable)


def _check_precision(info: RuntimeInfo, precision: str) -> None:
    if precision not in info.precisions:
        raise UsageError(
            f"runtime {info.name!r} has no precision {precision!r}, expected {' or '.join(info.precisions)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    model: str
    target: str
    toolchain: Toolchain
    settings: TargetSection
    params: Any
    imported: str
    sample: Mapping[str, tuple[int, ...]]
    store: Store
    registry: Registry
    parity: ParitySettings

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        imported = Imported(results[self.imported])
        context.progress(None, "preparing the model")
        source = model_input(self.model, imported, self.store, context.aside("model"))
        request = CompileRequest(
            models=(source,),
            target=self.target,
            params=self.params,
            precision=self.settings.precision,
            shapes=dict(self.settings.shapes),
        )
        context.progress(None, f"compiling for {self.toolchain.name}")
        with self.toolchain.lock:
            context.check_cancelled()
            answer = self.toolchain.compiler.compile(request, context)
        compiled = self._checked(answer, imported)
        result = self._store(compiled, source, imported, context)
        context.progress(None, "comparing with the source")
        evidence, sample = check_parity(
            imported, result, opener=Opener(self.store, self.registry), model=self.model, sample=self.sample,
            settings=self.parity, runtime=self.toolchain, context=context, store=self.store,
        )  # fmt: skip
        tolerances = [tensor["tolerance"] for finding in evidence for tensor in finding["tensors"]]
        facts = {
            **result.data,
            "evidence": [*imported.result.data.get("evidence", ()), *evidence],
            "isolation": context.isolation,
            "sample": sample,
            "tolerance": max(tolerances, default=0.0),
        }
        return StoredResult(files=result.files, data=facts)

    def _checked(self, result: object, imported: Imported) -> CompiledModel:
        """A plugin's answer is held against its contract: what is wrong later would not name the plugin."""
        where = f"runtime {self.toolchain.name!r}"
        if not isinstance(result, CompileResult) or [model.name for model in result.models] != [self.model]:
            raise PluginBrokenError(f"{where} did not return one compiled model named {self.model!r}")
        compiled = result.models[0]
        if not compiled.parts:
            raise PluginBrokenError(f"{where} returned a model without parts")
        made = {spec.name for part in compiled.parts for spec in part.outputs}
        lacking = sorted({spec.name for spec in imported.outputs} - made)
        if lacking:
            raise PluginBrokenError(f"{where} returned parts that do not give the output {lacking[0]!r}")
        for part in compiled.parts:
            roles = [file.role for file in part.files]
            if len(set(roles)) != len(roles) or not all(_ROLE.fullmatch(role) for role in roles):
                raise PluginBrokenError(
                    f"{where} returned a part whose roles are not names, each once: {', '.join(sorted(roles))}"
                )
        return compiled

    def _store(
        self, compiled: CompiledModel, source: ModelInput, imported: Imported, context: BuildContext
    ) -> StoredResult:
        known = {
            source.graph: imported.result.files["graph"],
            source.weights: imported.result.files["weights"],
            source.tensors: imported.result.files["tensors"],
        }
        files: dict[str, StoredFile] = {}
        parts: list[dict[str, Any]] = []
        for number, part in enumerate(compiled.parts):
            names = {}
            for file in part.files:
                mine = known.get(file.path)
                name = f"{number}/{file.role}{'' if mine else _suffix(file.path)}"
                files[name] = (
                    StoredFile(digest=mine.digest, size_bytes=mine.size_bytes, media_type=file.media_type)
                    if mine else self.store.adopt(self._within(file.path, context), file.media_type)
                )  # fmt: skip
                names[file.role] = name
            parts.append({
                "runtime": part.runtime, "files": names, "entry": part.entry, "options": dict(part.options),
                "inputs": _entries(part.inputs), "outputs": _entries(part.outputs),
            })  # fmt: skip
        data = {
            "parts": parts,
            "precision": self._precision(compiled, imported),
            "needs": dict(compiled.needs),
            "token": compiled.token,
            "absorbed": list(compiled.absorbed),
            "shapes": dict(compiled.shapes),
            "inputs": imported.result.data["inputs"],
            "outputs": imported.result.data["outputs"],
        }
        return StoredResult(files=files, data=data)

    def _precision(self, compiled: CompiledModel, imported: Imported) -> str:
        """A compiler that changes no precision passes on that of the model that it was given."""
        kept = compiled.precision == self.settings.precision == "float32"
        return str(imported.result.data.get("precision", "float32")) if kept else compiled.precision

    def _within(self, path: Path, context: BuildContext) -> Path:
        if not path.resolve().is_relative_to(context.work.resolve()):
            raise PluginBrokenError(
                f"runtime {self.toolchain.name!r} returned a file outside of its work folder: {path}"
            )
        return path


def _suffix(path: Path) -> str:
    """Kept in the bundle: some libraries choose their reader by it."""
    return path.suffix if _SUFFIX.fullmatch(path.suffix) else ""


def model_input(name: str, imported: Imported, store: Store, folder: Path) -> ModelInput:
    """A model of the store as plugins get it; the complete file is written into `folder`."""
    files = imported.result.files
    graph, weights, tensors = (store.path(files[role].digest) for role in ("graph", "weights", "tensors"))
    return ModelInput(
        name=name, path=_whole_model(store, files, folder), graph=graph, weights=weights, tensors=tensors,
        inputs=imported.inputs, outputs=imported.outputs,
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


def _entries(specs: tuple[TensorSpec, ...]) -> list[Any]:
    return [TensorEntry.of(spec).model_dump(mode="json", exclude_none=True) for spec in specs]
