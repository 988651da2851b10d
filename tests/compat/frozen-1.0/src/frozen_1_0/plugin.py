"""Written for plugin API 1.0. This file is never changed: what it does must work for as long as the API's major is 1."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sdkpack.errors import InputError, KeyFileError, ModelError, RunError
from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileResult,
    Coverage,
    DeviceInfo,
    ExporterInfo,
    ExportResult,
    Fit,
    Half,
    KeyProviderInfo,
    OperatorInfo,
    PartFile,
    Port,
    Probe,
    RuntimeInfo,
    hookimpl,
)

SDKPACK_API = (1, 0)


@dataclass(frozen=True)
class ShiftParams:
    by: float = 1.0


class Shift:
    def __init__(self, params):
        self._by = params.by

    def infer(self, inputs):
        return {"result": inputs["value"]}

    def run(self, value):
        if not value.size:
            raise InputError("nothing to shift")
        return (value + self._by).astype(value.dtype)


@dataclass(frozen=True)
class RuntimeParams:
    level: int = 1


class Compiler:
    def probe(self):
        return Probe(ok=True, fingerprint="frozen 1")

    def compile(self, request, context):
        models = []
        for number, model in enumerate(request.models):
            context.progress(number / len(request.models), model.name)
            context.log.info("level %d", request.params.level)
            content = model.path.read_bytes()
            try:
                _evaluator(content)
            except Exception as error:
                raise ModelError(f"the frozen runtime cannot take it: {error}") from error
            path = context.work / f"{model.name}.frozen"
            path.write_bytes(content)
            part = CompiledPart(
                runtime="frozen.v1",
                files=(PartFile(role="model", path=path, media_type="application/x-frozen"),),
                inputs=model.inputs,
                outputs=model.outputs,
                options={"level": request.params.level},
            )
            models.append(
                CompiledModel(
                    name=model.name,
                    parts=(part,),
                    precision=request.precision,
                    needs={"version": ">=1"},
                    token="frozen/1",
                    coverage=Coverage(nodes_total=1, nodes_on_device=1),
                )
            )
        return CompileResult(models=tuple(models))


class Runner:
    def devices(self):
        return (DeviceInfo(name="frozen", summary="for ever", facts={"driver": "1"}),)

    def check(self, needs, token):
        if token != "frozen/1":
            return Fit(verdict="no", reason=f"token {token!r}")
        return Fit(verdict="best")

    def open(self, request):
        assert request.files["model"].media_type == "application/x-frozen"
        assert request.options["level"] >= 1
        try:
            return Session(_evaluator(bytes(request.files["model"].memory())))
        except Exception as error:
            raise RunError(f"no frozen model: {error}") from error


class Session:
    def __init__(self, evaluator):
        self._evaluator = evaluator

    def run(self, inputs):
        if self._evaluator is None:
            raise RunError("closed")
        return dict(zip(self._evaluator.output_names, self._evaluator.run(None, dict(inputs))))

    def close(self):
        self._evaluator = None


class Listing:
    def export(self, request, context):
        path = context.work / f"{request.params.title}.json"
        manifest: Any = request.bundle.manifest
        path.write_text(json.dumps({"models": sorted(manifest["models"]), "identity": request.bundle.identity}))
        return ExportResult(files=(path,), notes=("done",))


@dataclass(frozen=True)
class ListingParams:
    title: str = "listing"


class Keys:
    def load(self, reference):
        raise KeyFileError(f"there is no key {reference!r}", hint="there never was")

    def wrap(self, reference, content_key, context):
        raise KeyFileError("wraps nothing")

    def unwrap(self, reference, wrapped, context):
        raise KeyFileError("unwraps nothing")

    def public_key(self, reference):
        raise KeyFileError("signs nothing")

    def sign(self, reference, message):
        raise KeyFileError("signs nothing")


def _evaluator(content):
    from onnx import ModelProto
    from onnx.reference import ReferenceEvaluator

    model = ModelProto.FromString(content)
    if not model.graph.output:
        raise ValueError("empty")
    return ReferenceEvaluator(model)


@hookimpl
def sdkpack_operators():
    return [
        OperatorInfo(
            name="frozen.shift",
            summary="Adds a number.",
            params=ShiftParams,
            load=f"{__name__}:Shift",
            inputs=(Port(name="value", type="tensor(float32)"),),
            outputs=(Port(name="result", type="tensor(float32)"),),
        )
    ]


@hookimpl
def sdkpack_runtimes():
    return [
        RuntimeInfo(
            name="frozen.v1",
            summary="Runs models as in the beginning.",
            params=RuntimeParams,
            compiler=Half(load=f"{__name__}:Compiler"),
            runner=Half(load=f"{__name__}:Runner"),
        )
    ]


@hookimpl
def sdkpack_exporters():
    return [
        ExporterInfo(
            name="frozen.listing", summary="Lists models.", params=ListingParams, load=f"{__name__}:Listing"
        )
    ]


@hookimpl
def sdkpack_key_providers():
    return [
        KeyProviderInfo(
            name="frozen.keys", summary="No keys.", load=f"{__name__}:Keys", capabilities=("load",), schemes=("frozen",)
        )
    ]
