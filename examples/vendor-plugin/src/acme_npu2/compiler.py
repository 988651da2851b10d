"""The compiler half: splits graphs, starts the toolchain, reads what it wrote.

The toolchain is a program of its own that knows nothing of sdkpack: it gets a job file and writes a program file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from acme_npu2 import graph, licence
from acme_npu2.plugin import TOKEN, Npu2Params
from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileRequest,
    CompileResult,
    Coverage,
    ModelInput,
    PartFile,
    PipelineStep,
    Probe,
    StepContext,
)
from sdkpack.types import TensorSpec

_TOOLCHAIN = Path(__file__).parent / "toolchain" / "acmecc.py"
_RELEASE = "acmecc 5.1"


class Npu2Compiler:
    """Quantises while it compiles; all models of a target go into one program file."""

    def probe(self) -> Probe:
        lacking = licence.problem()
        if lacking:
            return Probe(ok=False, missing=lacking, mend=f"export {licence.VARIABLE}=/path/of/the/licence")
        return Probe(ok=True, fingerprint=f"{_RELEASE}; numpy {np.__version__}; onnx {version('onnx')}")

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        """
        Raises:
            ModelError: a model has nothing that the device could run, or does not fit into its memory.
            StepError: there are no samples to calibrate with, or the toolchain failed.
        """
        params: Npu2Params = request.params or Npu2Params()
        jobs, splits, fixed = [], {}, {}
        for number, model in enumerate(request.models):
            context.progress(number / len(request.models) / 2, f"splitting {model.name}")
            fixed[model.name] = _fixed(model, request.shapes)
            splits[model.name] = _split(model, fixed[model.name])
            samples = request.samples.get(model.name, ())
            if not samples:
                raise StepError(
                    f"model {model.name!r} comes without samples, and this target quantises by them",
                    hint=f'name npz files in the recipe: models.{model.name}.samples = ["a.npz", "b.npz"]',
                )
            absorbed = _absorbed(model) if params.absorb else None
            jobs.append(_job(model, splits[model.name], samples, absorbed, context.work))
        program = context.work / "program.npu2"
        job = context.work / "job.json"
        job.write_text(json.dumps({"models": jobs, "program": str(program), "crash": params.crash}))
        context.progress(0.5, "compiling")
        # -I: nothing of the user's settings or current folder; NumPy is all that it needs.
        context.run([sys.executable, "-I", str(_TOOLCHAIN), str(job)], timeout_s=5.0 if params.crash else 600.0)
        report = _report(program)
        if report["memory_bytes"] > params.memory_kib * 1024:
            raise ModelError(
                f"the models need {report['memory_bytes']} bytes on the device, which has {params.memory_kib * 1024}",
                hint="put fewer models on this target, or smaller ones",
            )
        models = [
            _compiled(model, splits[model.name], fixed[model.name], program, report, context.work,
                      _absorbed(model) if params.absorb else None)
            for model in request.models
        ]  # fmt: skip
        return CompileResult(models=tuple(models))


def _fixed(model: ModelInput, shapes: Mapping[str, int]) -> dict[str, int]:
    """Every symbol gets a size: what the recipe says, or 1 for a batch."""
    fixed: dict[str, int] = {}
    for spec in model.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                if dim not in shapes and axis:
                    raise ModelError(f"{dim} of input {spec.name!r} is open", hint=f"targets.NAME.shapes.{dim} = 224")
                fixed[dim] = shapes.get(dim, 1)
    return fixed


def _split(model: ModelInput, fixed: dict[str, int]) -> graph.Split:
    from google.protobuf.message import DecodeError

    try:
        return graph.split(model.path, fixed)
    except DecodeError as error:
        raise ModelError(f"the model is damaged: {error}") from error


def _absorbed(model: ModelInput) -> PipelineStep | None:
    """The normalisation right before the model, where it is one that the device can do."""
    last = model.operators_before[-1] if model.operators_before else None
    simple = last is not None and last.op == "image.to_tensor/1" and last.params["channels"] == "rgb"
    return last if simple and last is not None and last.params["layout"] == "NCHW" else None


def _job(
    model: ModelInput, split: graph.Split, samples: Any, absorbed: PipelineStep | None, work: Path
) -> dict[str, Any]:
    weights = work / f"{model.name}.weights.npz"
    np.savez(weights, **split.weights)
    return {
        "name": model.name, "ops": split.ops, "weights": str(weights), "outputs": list(split.boundary),
        "inputs": [spec.name for spec in model.inputs], "samples": [str(path) for path in samples],
        "normalise": _normalise(absorbed.params) if absorbed else None,
    }  # fmt: skip


def _normalise(params: Mapping[str, Any]) -> dict[str, list[float]]:
    """`(pixel * scale - mean) / std` for each of three channels."""

    def three(value: Any) -> list[float]:
        values = list(value) if isinstance(value, list | tuple) else [value]
        return [float(number) for number in values * (3 if len(values) == 1 else 1)]

    scale = params["scale"]
    return {
        "scale": three(float(Fraction(scale)) if isinstance(scale, str) else scale),
        "mean": three(params["mean"]),
        "std": three(params["std"]),
    }


def _report(program: Path) -> dict[str, Any]:
    from acme_npu2.toolchain.program import header_of

    try:
        return header_of(program.read_bytes())
    except (OSError, ValueError) as error:
        raise StepError(f"the toolchain ended well and wrote no program: {error}", hint="report it to Acme") from error


def _compiled(
    model: ModelInput, split: graph.Split, fixed: dict[str, int], program: Path, report: dict[str, Any], work: Path,
    absorbed: PipelineStep | None,
) -> CompiledModel:  # fmt: skip
    inputs = tuple(
        TensorSpec(name=spec.name, dtype=spec.dtype, shape=tuple(fixed.get(str(dim), dim) for dim in spec.shape))
        for spec in model.inputs
    )
    if absorbed:
        _, channels, height, width = inputs[0].shape
        inputs = (TensorSpec(name=inputs[0].name, dtype="uint8", shape=(height, width, channels)),)
    boundary = tuple(TensorSpec(name=n, dtype="float32", shape=tuple(s)) for n, s in split.boundary.items())
    on_device = CompiledPart(
        runtime="acme.npu2", entry=model.name, inputs=inputs, outputs=boundary,
        files=(PartFile(role="program", path=program, media_type="application/vnd.acme.npu2"),),
    )  # fmt: skip
    parts = [on_device]
    if split.rest is not None:
        path = work / f"{model.name}.rest.onnx"
        path.write_bytes(split.rest.SerializeToString(deterministic=True))
        taken = {value.name for value in split.rest.graph.input}
        parts.append(CompiledPart(
            runtime="onnxruntime", files=(PartFile(role="graph", path=path, media_type="application/vnd.onnx.graph"),),
            inputs=tuple(spec for spec in (*inputs, *boundary) if spec.name in taken),
            outputs=tuple(spec for spec in model.outputs if spec.name not in split.boundary), options={"threads": 1},
        ))  # fmt: skip
    return CompiledModel(
        name=model.name, parts=tuple(parts), precision="int8", token=TOKEN, shapes=fixed,
        absorbed=(absorbed.id,) if absorbed else (), needs={"memory_bytes": report["memory_bytes"]},
        coverage=Coverage(
            nodes_total=split.nodes, nodes_on_device=len(split.ops), unsupported=tuple(split.unsupported),
            transfers=1 + len(boundary),
        ),
    )  # fmt: skip
