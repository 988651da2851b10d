"""Runtimes for the tests of this folder: ONNX Runtime underneath, with faults that their settings choose."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileRequest,
    CompileResult,
    DeviceInfo,
    ExporterInfo,
    ExportRequest,
    ExportResult,
    Fit,
    Half,
    OpenRequest,
    PartFile,
    Probe,
    RuntimeInfo,
    StepContext,
    hookimpl,
)

SDKPACK_API = (1, 0)


@dataclass(frozen=True)
class FaultyParams:
    """What a test wants to go wrong."""

    factor: float = 1.0
    """Outputs are multiplied by it: another answer than the source's."""
    noise: float = 0.0
    """Outputs get another multiple of it in each run."""
    crash: str = ""
    """`compile`: a bug; `result`: no result; `outside`: a file from elsewhere; `lacks`: an output is missing;
    `link`: a symbolic link; `role`: a hostile role; `interrupt`: ^C."""


class FaultyCompiler:
    def __init__(self) -> None:
        self.busy = 0

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="faulty 1")

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        params: FaultyParams = request.params
        model = request.models[0]
        self.busy += 1
        time.sleep(0.05)
        assert self.busy == 1, "called by two threads at a time"
        self.busy -= 1
        copy = context.work / "model.onnx"
        shutil.copyfile(model.path, copy)
        outputs = model.outputs
        match params.crash:
            case "compile":
                raise ZeroDivisionError("the tool divided by zero")
            case "interrupt":
                raise KeyboardInterrupt
            case "result":
                return None  # type: ignore[return-value]
            case "outside":
                copy = Path(__file__)
            case "link":
                copy = context.work / "link"
                copy.symlink_to("/etc/hostname")
            case "lacks":
                outputs = ()
        part = CompiledPart(
            runtime="test.faulty",
            files=(
                PartFile(
                    role="../model" if params.crash == "role" else "model", path=copy, media_type="application/x-test"
                ),
            ),
            inputs=model.inputs,
            outputs=outputs,
            options={"factor": params.factor, "noise": params.noise},
        )
        return CompileResult(models=(CompiledModel(name=model.name, parts=(part,), precision=request.precision),))


class NamelessCompiler(FaultyCompiler):
    def probe(self) -> Probe:
        return Probe(ok=True)


class MissingCompiler(FaultyCompiler):
    def probe(self) -> Probe:
        return Probe(ok=False, missing="acme-toolkit 3", mend="pip install acme-toolkit")


class FaultySession:
    _runs = itertools.count(1)

    def __init__(self, request: OpenRequest) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(bytes(request.files["model"].memory()))
        self._options = request.options
        self._names = [spec.name for spec in request.outputs]

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = self._session.run(self._names, dict(inputs))
        shift = self._options["noise"] * next(self._runs)
        return {
            name: (value * np.float32(self._options["factor"]) + np.float32(shift)).astype(value.dtype)
            for name, value in zip(self._names, outputs, strict=True)
        }

    def close(self) -> None: ...


class FaultyRunner:
    def devices(self) -> Sequence[DeviceInfo]:
        return (DeviceInfo(name="cpu"),)

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        return Fit(verdict="best")

    def open(self, request: OpenRequest) -> FaultySession:
        return FaultySession(request)


@dataclass(frozen=True)
class ListingParams:
    title: str = "files"
    crash: str = ""


class Lister:
    """Exports a folder with the bundle's manifest, and a file with a secret-free summary."""

    def export(self, request: ExportRequest, context: StepContext) -> ExportResult:
        params: ListingParams = request.params
        if params.crash == "bug":
            raise IndexError("no such page")
        if params.crash == "outside":
            return ExportResult(files=(Path(__file__),))
        summary = context.work / "summary.txt"
        keys = "".join(request.trusted_keys)
        summary.write_text(f"{params.title}\n{request.bundle.identity}\n{keys}")
        folder = context.work / "tree"
        folder.mkdir()
        (folder / "modules.txt").write_text("\n".join(request.plugin_modules))
        return ExportResult(files=(summary, folder), notes=("read summary.txt",))


def _runtime(name: str, compiler: str) -> RuntimeInfo:
    return RuntimeInfo(
        name=name,
        summary="For tests.",
        params=FaultyParams,
        capabilities=("run.concurrent",),
        compiler=Half(load=f"{__name__}:{compiler}"),
        runner=Half(load=f"{__name__}:FaultyRunner"),
    )


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [
        _runtime("test.faulty", "FaultyCompiler"),
        _runtime("test.nameless", "NamelessCompiler"),
        _runtime("test.missing", "MissingCompiler"),
        RuntimeInfo(name="test.runs", summary="Only runs.", runner=Half(load=f"{__name__}:FaultyRunner")),
    ]


@hookimpl
def sdkpack_exporters() -> list[ExporterInfo]:
    return [ExporterInfo(name="test.list", summary="For tests.", params=ListingParams, load=f"{__name__}:Lister")]
