"""A compiler's answer, held against its contract and put into the store.

What is wrong here would show up later too, far from the plugin that did it, on a customer's machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.steps.absorbing import Absorbable
from sdkpack.build.steps.specs import entries
from sdkpack.build.store import Store, StoredFile
from sdkpack.errors import GateError, PluginBrokenError
from sdkpack.host.registry import Registry
from sdkpack.plugin.runtime import CompiledModel, CompileResult, ModelInput
from sdkpack.session.choice import load_runner
from sdkpack.types import TensorSpec

__all__ = ["Answer", "check_fit"]

# Roles become names of files in the bundle.
_ROLE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a compiler returned for the models that it was asked to compile."""

    runtime: str
    sources: Mapping[str, ModelInput]
    shapes: Mapping[str, int]
    absorbable: Mapping[str, Absorbable]
    min_offload: float | None = None
    precision: str = "float32"
    """What was asked for."""
    given: Mapping[str, str] = field(default_factory=dict)
    """The precision of each model before, where it is another than float32."""

    def models(self, result: object) -> dict[str, CompiledModel]:
        """The compiled models by name.

        Raises:
            PluginBrokenError: the answer breaks the contract.
            GateError: too little of a model runs on the target itself.
        """
        wanted = sorted(self.sources)
        if not isinstance(result, CompileResult) or sorted(model.name for model in result.models) != wanted:
            names = f"one compiled model named {wanted[0]!r}" if len(wanted) == 1 else f"the models {', '.join(wanted)}"
            raise self._broken(f"did not return {names}")
        for model in result.models:
            self._check_parts(model)
            self._check_absorbed(model)
            self._check_shapes(model)
            self._check_coverage(model)
        return {model.name: model for model in result.models}

    def _check_parts(self, model: CompiledModel) -> None:
        if not model.parts:
            raise self._broken("returned a model without parts")
        made = {spec.name for part in model.parts for spec in part.outputs}
        lacking = sorted({spec.name for spec in self.sources[model.name].outputs} - made)
        if lacking:
            raise self._broken(f"returned parts that do not give the output {lacking[0]!r}")
        for part in model.parts:
            roles = [file.role for file in part.files]
            if len(set(roles)) != len(roles) or not all(_ROLE.fullmatch(role) for role in roles):
                raise self._broken(f"returned a part whose roles are not names, each once: {', '.join(sorted(roles))}")

    def _check_absorbed(self, model: CompiledModel) -> None:
        if self.absorbable[model.name].chosen(model.absorbed) is None:
            source = self.sources[model.name]
            offered = ", ".join(step.id for step in (*source.operators_before, *source.operators_after)) or "none"
            raise self._broken(
                f"absorbed the steps {', '.join(model.absorbed)} of model {model.name!r}, expected steps next to the "
                f"model out of those that it was offered ({offered})"
            )

    def _check_shapes(self, model: CompiledModel) -> None:
        """What is fixed is said, what is said is fixed, and what was asked for is done."""
        source = self.sources[model.name]
        symbols = {dim for spec in source.inputs for dim in spec.shape if isinstance(dim, str)}
        for symbol, size in self.shapes.items():
            if symbol in symbols and model.shapes.get(symbol, size) != size:
                raise self._broken(f"fixed {symbol} to {model.shapes[symbol]}, asked for was {size}")
        stray = sorted(set(model.shapes) - symbols)
        if stray:
            raise self._broken(f"says that it fixed {stray[0]}, which is no open dimension of model {model.name!r}")
        if model.absorbed:
            return  # the specs are those of the absorbed steps; what they compute is compared
        taken = {spec.name: spec for part in reversed(model.parts) for spec in part.inputs}
        for spec in source.inputs:
            if spec.name in taken:
                self._check_spec(model, spec, taken[spec.name], "takes")
        given = {spec.name: spec for part in model.parts for spec in part.outputs}
        for spec in source.outputs:
            self._check_spec(model, spec, given[spec.name], "gives")

    def _check_spec(self, model: CompiledModel, spec: TensorSpec, made: TensorSpec, does: str) -> None:
        """What a part takes or gives is what the model does, but for open dimensions that were fixed and said to be."""
        if spec.dtype != made.dtype or len(spec.shape) != len(made.shape):
            raise self._broken(f"returned a part that {does} {made}, the model {does} {spec}")
        symbols = {dim for other in self.sources[model.name].inputs for dim in other.shape if isinstance(dim, str)}
        for dim, size in zip(spec.shape, made.shape, strict=True):
            said = model.shapes.get(dim) if isinstance(dim, str) else dim
            derived = does == "gives" and isinstance(dim, str) and dim not in symbols
            if isinstance(size, int) and said != size and not derived:
                raise self._broken(f"returned a part that {does} {made} for {spec}, and {_said(dim, said)}")
            # An output may leave open what follows from the inputs: the remainder on a CPU takes any batch.
            if does == "takes" and isinstance(size, str) and said is not None:
                raise self._broken(f"says that it fixed {dim} to {said}, and returned a part that {does} {made}")

    def _check_coverage(self, model: CompiledModel) -> None:
        found = model.coverage
        if found is not None and not 0 <= found.nodes_on_device <= found.nodes_total:
            raise self._broken(f"returned a coverage of {found.nodes_on_device} nodes of {found.nodes_total}")
        if self.min_offload is None:
            return
        if found is None:
            raise GateError(
                f"runtime {self.runtime!r} does not say how much of model {model.name!r} the target runs itself",
                hint="leave out min_offload of this target",
            )
        share = found.nodes_on_device / found.nodes_total if found.nodes_total else 1.0
        if share < self.min_offload:
            lacks = f"; it lacks {', '.join(found.unsupported)}" if found.unsupported else ""
            raise GateError(
                f"{found.nodes_on_device} of {found.nodes_total} nodes of model {model.name!r} run on the target "
                f"itself, expected a share of at least {self.min_offload:g}{lacks}",
                hint="replace these operators in the model, or lower min_offload of this target",
            )

    def store(
        self, model: CompiledModel, known: dict[Path, StoredFile], store: Store, context: BuildContext
    ) -> tuple[dict[str, StoredFile], dict[str, Any]]:
        """Puts a model's files into the store; those that several models share are read once.

        Args:
            model: a checked one.
            known: files that are in the store already, by path; those that are moved there are added.
            store: where they go.
            context: its work folder is where they may come from.
        """
        source = self.sources[model.name]
        inputs = (source.graph, source.weights, source.tensors)
        files: dict[str, StoredFile] = {}
        parts: list[dict[str, Any]] = []
        for number, part in enumerate(model.parts):
            names = {}
            for file in part.files:
                own = file.path in inputs
                name = f"{number}/{file.role}{'' if own else _suffix(file.path)}"
                if file.path not in known:
                    known[file.path] = store.adopt(self._within(file.path, context), file.media_type)
                mine = known[file.path]
                files[name] = StoredFile(digest=mine.digest, size_bytes=mine.size_bytes, media_type=file.media_type)
                names[file.role] = name
            parts.append({
                "runtime": part.runtime, "files": names, "entry": part.entry, "options": dict(part.options),
                "inputs": entries(part.inputs), "outputs": entries(part.outputs),
            })  # fmt: skip
        coverage = None
        if model.coverage is not None:
            coverage = {**asdict(model.coverage), "unsupported": list(model.coverage.unsupported)}
        data = {
            "parts": parts, "precision": self._precision(model), "needs": dict(model.needs), "token": model.token,
            "absorbed": list(model.absorbed), "shapes": dict(model.shapes), "coverage": coverage,
            "inputs": entries(source.inputs), "outputs": entries(source.outputs),
        }  # fmt: skip
        return files, data

    def _precision(self, model: CompiledModel) -> str:
        """A compiler that changes no precision passes on that of the model that it was given."""
        kept = model.precision == self.precision == "float32"
        return self.given.get(model.name, "float32") if kept else model.precision

    def _within(self, path: Path, context: BuildContext) -> Path:
        if not path.resolve().is_relative_to(context.work.resolve()):
            raise self._broken(f"returned a file outside of its work folder: {path}")
        return path

    def _broken(self, text: str) -> PluginBrokenError:
        return PluginBrokenError(f"runtime {self.runtime!r} {text}", hint="update the plugin, or tell its author")


def _said(dim: int | str, said: int | None) -> str:
    if isinstance(dim, int):
        return f"the model has {dim} there"
    return f"does not say that it fixed {dim}" if said is None else f"says {said} for {dim}"


def check_fit(data: Mapping[str, Any], registry: Registry) -> None:
    """The runner that has just run a variant must also say that it would: sessions ask it before they load anything.

    A token that the runner does not know, or a need that is not met where the variant runs, would make a bundle that no
    machine takes.

    Args:
        data: of the compile step's result.
        registry: where the runtime of the first part comes from.

    Raises:
        PluginBrokenError: it says no.
    """
    runtime = data["parts"][0]["runtime"]
    fit = load_runner(registry.runtime(runtime)).check(data["needs"], data["token"])
    if fit.verdict not in ("best", "works"):
        raise PluginBrokenError(
            f"runtime {runtime!r} made a variant with the token {data['token']!r} and the needs "
            f"{json.dumps(dict(data['needs']))}, ran it, and its own runner refuses it: "
            f"{fit.reason or 'no reason given'}",
            hint="update the plugin, or tell its author: compiler and runner have to agree",
        )


def _suffix(path: Path) -> str:
    """Kept in the bundle: some libraries choose their reader by it."""
    return path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
