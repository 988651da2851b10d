"""A runtime whose compiler says one thing and gives another, as its settings choose; and one for several models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileRequest,
    CompileResult,
    Coverage,
    Fit,
    Half,
    PartFile,
    Probe,
    RuntimeInfo,
    StepContext,
    hookimpl,
)
from sdkpack.types import TensorSpec
from tests.unit.build.plugins import FaultyRunner

SDKPACK_API = (1, 0)


_OUTPUT_LIES: dict[str, Callable[[TensorSpec], dict[str, Any]]] = {
    "output-rank": lambda spec: {"shape": (*spec.shape, 1)},
    "output-size": lambda spec: {"shape": (*spec.shape[:-1], 99)},
    "output-type": lambda _: {"dtype": "float16"},
}


@dataclass(frozen=True)
class LyingParams:
    lie: str = ""


class LyingCompiler:
    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="lying 1")

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        lie = request.params.lie
        notes = context.work / "prior"
        notes.mkdir()
        seen = int((request.prior / "count").read_text()) if request.prior else 0
        (notes / "count").write_text(str(seen + 1))
        context.progress(None, f"prior {seen}; {sum(map(len, request.samples.values()))} samples")
        models = tuple(self._model(model, lie, context) for model in request.models)
        if lie == "models":
            models = (*models, models[0])
        return CompileResult(models=models, prior=context.work.parent if lie == "prior" else notes)

    def _model(self, model: Any, lie: str, context: StepContext) -> CompiledModel:
        copy = context.work / f"{model.name}.onnx"
        shutil.copyfile(model.path, copy)
        if lie == "random":
            # An empty field that no reader knows: another file, the same model.
            with copy.open("ab") as out:
                out.write(b"\xfa\x7f\x08" + os.urandom(8))
        inputs = model.inputs
        if lie in ("fixes-silently", "fixes-other"):
            inputs = tuple(replace(spec, shape=(2, *spec.shape[1:])) for spec in inputs)
        outputs = model.outputs
        if lie in _OUTPUT_LIES:
            outputs = tuple(replace(spec, **_OUTPUT_LIES[lie](spec)) for spec in outputs)
        role = "../graph" if lie == "role" else "model"
        part = CompiledPart(
            runtime="test.lying", files=(PartFile(role=role, path=copy, media_type="application/x-test"),),
            inputs=inputs, outputs=outputs, options={"factor": 1.0, "noise": 0.0},
        )  # fmt: skip
        shapes = {"says-fixed": {"N": 3}, "fixes-other": {"N": 3}, "fixes-nothing": {"Q": 3}}.get(lie, {})
        coverage = {"half": Coverage(nodes_total=4, nodes_on_device=2, unsupported=("Tanh",)),
                    "too-much": Coverage(nodes_total=1, nodes_on_device=2)}.get(lie)  # fmt: skip
        return CompiledModel(
            name=model.name, parts=(part,), shapes=shapes, coverage=coverage,
            absorbed=("nothing",) if lie == "absorbed" else (), token="lying/2" if lie == "token" else "lying/1",
        )  # fmt: skip


class LyingRunner(FaultyRunner):
    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        if token != "lying/1":
            return Fit(verdict="no", reason=f"it was compiled for {token}")
        return Fit(verdict="works")


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    row = RuntimeInfo(
        name="test.lying", summary="For tests.", params=LyingParams, capabilities=("run.concurrent",),
        compiler=Half(load=f"{__name__}:LyingCompiler"), runner=Half(load=f"{__name__}:LyingRunner"),
    )  # fmt: skip
    return [row, replace(row, name="test.joint", capabilities=("run.concurrent", "compile.joint"))]
