"""What the conformance tests of runtimes work with: both halves, models, bundles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import onnx
import pytest

from sdkpack.build.pack import PackResult, pack
from sdkpack.build.store import Store
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered
from sdkpack.model.sample import make_samples
from sdkpack.plugin.info import RuntimeInfo
from sdkpack.plugin.runtime import (
    CompiledModel,
    CompiledPart,
    Compiler,
    CompileRequest,
    OpenRequest,
    Runner,
    RunnerSession,
)
from sdkpack.session.blobs import FileBlob
from sdkpack.session.choice import load_runner
from sdkpack.session.models import LoadedModel
from sdkpack.testing.apart import open_declared
from sdkpack.testing.base import Conformance
from sdkpack.testing.bench import PlainContext, inputs_of, model_input, open_compiled, write_keys
from sdkpack.testing.models import small_models

__all__ = ["CompileBench", "RuntimeBench"]

_OPSET: Final = 17


@dataclass(frozen=True, slots=True)
class CompileBench:
    compiler: Compiler
    request: CompileRequest
    facts: Any
    work: Path


class RuntimeBench(Conformance):
    """A runtime's halves, and models ready for them."""

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ()
    shapes: ClassVar[Mapping[str, int]] = {}
    samples_per_model: ClassVar[int] = 4

    def models(self) -> Mapping[str, Any]:
        """`ModelProto`s by name; override it for a target that lacks Gemm, Conv, Relu, MaxPool or Flatten."""
        return small_models(self.opset())

    def opset(self) -> int:
        """The version of the operators of `models`: 17, or what is next to it of those that the runtime takes."""
        low, high = self.row().info.opsets or (_OPSET, _OPSET)
        return min(max(_OPSET, low), high)

    # What the tests work with ---------------------------------------------------------------------------------------
    def row(self) -> Registered[RuntimeInfo]:
        return self.registry.runtime(self.runtime)

    def compiler(self) -> Compiler:
        """The compiler half; the test is skipped where there is none, or its toolchain is not here."""
        half = self.row().info.compiler
        if half is None:
            pytest.skip("the runtime has no compiler half")
        made: Compiler = open_declared(self.row(), half)
        probe = made.probe()
        if not probe.ok:
            pytest.skip(f"its toolchain is not here: {probe.missing}")
        return made

    def runner(self) -> Runner:
        half = self.row().info.runner
        if half is None:
            pytest.skip("the runtime has no runner half")
        return load_runner(self.row())

    def wanted_precisions(self) -> Sequence[str]:
        return self.precisions or self.row().info.precisions

    def bench(self, name: str, folder: Path, precision: str = "", model: Any = None) -> CompileBench:
        """A model ready to be compiled, in a folder of its own."""
        folder.mkdir(parents=True)
        source, facts = model_input(model or self.models()[name], folder, name=name)
        work = folder / "work"
        work.mkdir()
        samples = self.samples(facts.inputs, folder) if self.samples_per_model else ()
        request = CompileRequest(
            models=(source,), target="bench", params=ParamSchema(self.row().info).instance(self.params),
            precision=precision or self.wanted_precisions()[0], shapes=dict(self.shapes),
            samples={name: samples} if samples else {},
        )  # fmt: skip
        return CompileBench(self.compiler(), request, facts, work)

    def samples(self, inputs: Any, folder: Path) -> tuple[Path, ...]:
        """npz files with made inputs, for compilers that calibrate."""
        paths = []
        for number in range(self.samples_per_model):
            path = folder / f"sample-{number}.npz"
            arrays: Any = make_samples(inputs, seed=number, dims=dict(self.shapes))
            np.savez(path, **arrays)
            paths.append(path)
        return tuple(paths)

    def compiled(self, bench: CompileBench) -> CompiledModel:
        (model,) = bench.compiler.compile(bench.request, PlainContext(bench.work)).models
        return model

    @contextmanager
    def opened(self, folder: Path, name: str = "") -> Iterator[tuple[LoadedModel, dict[str, Any], CompiledModel]]:
        """A model compiled and opened, with inputs for it."""
        self.runner()
        bench = self.bench(name or next(iter(self.models())), folder)
        model = self.compiled(bench)
        inputs: dict[str, Any] = make_samples(bench.facts.inputs, dims={**self.shapes, **model.shapes})
        with closing(open_compiled(model, bench.facts, self.registry)) as loaded:
            yield loaded, inputs, model

    def packed(self, name: str, folder: Path, precision: str, *, sealed: bool = False, model: Any = None) -> PackResult:
        """The model in a bundle, made by `pack` from a recipe; comparing with ONNX's reference is a part of that."""
        self.compiler()
        self.runner()
        folder.mkdir(parents=True)
        model = model or self.models()[name]
        onnx.save(model, str(folder / "model.onnx"))
        samples = self.samples(inputs_of(model), folder) if self.samples_per_model else ()
        (folder / "recipe.toml").write_text(self._recipe(name, precision, samples, sealed=sealed), encoding="utf-8")
        if sealed:
            write_keys(folder)
        with Store(folder / "store") as store:
            return pack(
                folder / "recipe.toml", registry=self.registry, store=store, out=folder / "out.sdkpack", sealed=sealed
            )

    def _recipe(self, name: str, precision: str, samples: Sequence[Path], *, sealed: bool) -> str:
        lines = [
            "recipe = 1",
            'bundle = { name = "conformance", version = "1.0.0" }',
            f'models.{name}.source = "model.onnx"',
            f"models.{name}.samples = {json.dumps([path.name for path in samples])}",
            f"targets.it.runtime = {json.dumps(self.runtime)}",
            f"targets.it.precision = {json.dumps(precision)}",
            *(f"targets.it.shapes.{symbol} = {size}" for symbol, size in self.shapes.items()),
            *(f"targets.it.with.{key} = {json.dumps(value)}" for key, value in self.params.items()),
        ]
        if sealed:
            lines += ["[encrypt]", 'recipients = ["customer.pub"]', "[sign]", 'key = "publisher.key"']
        return "\n".join(lines) + "\n"

    def job(self, do: str, folder: Path) -> dict[str, Any]:
        self.compiler()
        name, model = next(iter(self.models().items()))
        path, work = folder / f"{name}.onnx", folder / "job"
        onnx.save(model, str(path))
        work.mkdir()
        samples = self.samples(inputs_of(model), folder) if self.samples_per_model else ()
        return {
            "do": do, "runtime": self.runtime, "model": str(path), "folder": str(work), "params": dict(self.params),
            "precision": self.wanted_precisions()[0], "shapes": dict(self.shapes), "samples": [str(s) for s in samples],
        }  # fmt: skip

    def sessions(self, folder: Path) -> Iterator[tuple[CompiledPart, RunnerSession]]:
        """The parts that this runtime runs, each opened by its runner alone."""
        runner = self.runner()
        for part in self.compiled(self.bench(next(iter(self.models())), folder)).parts:
            if part.runtime == self.runtime:
                files: dict[str, Any] = {
                    file.role: FileBlob(file.path, media_type=file.media_type) for file in part.files
                }
                request = OpenRequest(
                    files=files, inputs=part.inputs, outputs=part.outputs, entry=part.entry, options=part.options,
                    threads=1,
                )  # fmt: skip
                yield part, runner.open(request)
