"""A runtime that computes with NumPy what its options say, and remembers how it was called."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdkpack.documents.manifest import ModelEntry, ModelSource, Needs, TensorEntry, Variant, VariantPart
from sdkpack.errors import RunError
from sdkpack.host.registry import PluginState, Registry
from sdkpack.plugin import (
    DeviceInfo,
    EnvironmentSpec,
    Fit,
    Half,
    OpenRequest,
    OperatorInfo,
    PluginInfo,
    Port,
    RuntimeInfo,
    hookimpl,
)
from sdkpack.types import ValueType

OPENED: list[FakeSession] = []


class FakeSession:
    """Options: `scale`; `sleep_s`; `fail`: raises; `wrong`: breaks its contract that way."""

    def __init__(self, request: OpenRequest) -> None:
        self.request = request
        weights = request.files.get("weights")
        self.bias = np.float32(0) if weights is None else np.frombuffer(weights.memory(), np.float32)
        self.threads: list[int] = [threading.get_ident()]
        self.busy = 0
        self.most_busy = 0
        self.closed = 0
        OPENED.append(self)

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        options = self.request.options
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        self.threads.append(threading.get_ident())
        time.sleep(options.get("sleep_s", 0))
        self.busy -= 1
        if options.get("fail"):
            raise ArithmeticError("the device is on fire")
        total = sum(inputs.values()) * np.float32(options.get("scale", 1.0)) + self.bias
        names = [spec.name for spec in self.request.outputs]
        match options.get("wrong"):
            case "missing":
                names = []
            case "dtype":
                total = total.astype(np.float64)
            case "shape":
                total = total[:, :1]
        return dict.fromkeys(names, total)

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closed += 1


class CloningSession(FakeSession):
    def clone(self) -> CloningSession:
        return CloningSession(self.request)


class FakeRunner:
    def devices(self) -> Sequence[DeviceInfo]:
        return (DeviceInfo(name="fake"),)

    def check(self, needs: Mapping[str, Any], token: str) -> Fit:
        if token == "foreign":
            return Fit(verdict="no", reason="was compiled for another chip")
        return Fit(verdict=needs.get("verdict", "best"), reason=needs.get("reason", ""))

    def open(self, request: OpenRequest) -> FakeSession:
        if request.options.get("refuse"):
            raise ValueError("no such kernel")
        if request.options.get("refuse_kindly"):
            raise RunError("the file is of a newer version")
        return FakeSession(request)


class CloningRunner(FakeRunner):
    def open(self, request: OpenRequest) -> FakeSession:
        return CloningSession(request)


def _runtime(name: str, *, runner: str = "FakeRunner", words: tuple[str, ...] = (), **more: Any) -> RuntimeInfo:
    isolation = more.pop("isolation", "in-process")
    environment = EnvironmentSpec(requirements=(), smoke_test="import json") if isolation == "environment" else None
    half = Half(load=f"{__name__}:{runner}", isolation=isolation, environment=environment)
    return RuntimeInfo(name=name, summary=name, runner=half, capabilities=words, **more)


SDKPACK_API = (1, 0)


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [
        _runtime("fake"),
        _runtime("fake.fast", words=("run.concurrent",)),
        _runtime("fake.clone", runner="CloningRunner", words=("run.clone",)),
        _runtime("fake.windows", platforms=("windows/*",)),
        _runtime("fake.apart", isolation="environment"),
        _runtime("fake.gone", runner="NoSuchRunner"),
        RuntimeInfo(name="fake.compiler", summary="compiles", runner=None),
    ]


@dataclass(frozen=True)
class TimesParams:
    by: float = 1.0


class Times:
    def __init__(self, params: TimesParams) -> None:
        self._by = np.float32(params.by)

    def infer(self, inputs: Mapping[str, ValueType]) -> Mapping[str, ValueType]:
        return {"result": inputs["value"]}

    def run(self, *inputs: Any) -> Any:
        return inputs[0] * self._by


@hookimpl
def sdkpack_operators() -> list[OperatorInfo]:
    return [
        OperatorInfo(
            name="fake.times",
            summary="multiplies",
            params=TimesParams,
            load=f"{__name__}:Times",
            inputs=(Port(name="value", type="tensor(float32)"),),
            outputs=(Port(name="result", type="tensor(float32)"),),
        )
    ]


def registry(*more: PluginInfo) -> Registry:
    rows = (*sdkpack_runtimes(), *more)
    state = PluginState(name="fake", module=__name__, distribution="fake", version="1", api=(1, 0), rows=rows)
    return Registry((state,))


def tensor(name: str, shape: Sequence[int | str] = ("N", 3), dtype: str = "float32") -> TensorEntry:
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape))


def part(runtime: str = "fake", takes: str = "x", gives: str = "y", **options: Any) -> VariantPart:
    return VariantPart(runtime=runtime, files={}, inputs=(tensor(takes),), outputs=(tensor(gives),), options=options)


def variant(target: str = "cpu", *parts: VariantPart, **more: Any) -> Variant:
    needs = Needs(**{key: more.pop(key) for key in ("platforms", "runtime", "token") if key in more})
    return Variant(target=target, parts=parts or (part(),), needs=needs, **more)


def entry(*variants: Variant, inputs: Sequence[TensorEntry] = (), outputs: Sequence[TensorEntry] = ()) -> ModelEntry:
    return ModelEntry(
        inputs=tuple(inputs) or (tensor("x"),),
        outputs=tuple(outputs) or (tensor("y"),),
        source=ModelSource(reference="net.onnx", digest="sha256:" + "0" * 64, size_bytes=1, format="onnx"),
        variants=variants or (variant(),),
    )
