"""Plugins that say of themselves that they are not deterministic, and are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import onnx
from sdkpack_onnxruntime import plugin

from sdkpack.plugin import (
    CompressorInfo,
    CompressRequest,
    CompressResult,
    Half,
    Probe,
    RuntimeInfo,
    StepContext,
    hookimpl,
)

SDKPACK_API = (1, 0)


class Dice:
    """Adds a little noise of the machine to every weight, as one does who trains on."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="dice 1")

    def compress(self, request: CompressRequest, context: StepContext) -> CompressResult:
        model = onnx.load(request.model.path)
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            factor = 1 + int.from_bytes(os.urandom(4), "little") / 2**32 / 1000
            tensor.CopyFrom(onnx.numpy_helper.from_array((array * factor).astype("float32"), tensor.name))
        path = context.work / "model.onnx"
        onnx.save(model, path)
        return CompressResult(model=path, precision="float32")


@hookimpl
def sdkpack_compressors() -> Sequence[CompressorInfo]:
    half = Half(load=f"{__name__}:Dice")
    return [CompressorInfo(name="test.dice", summary="Noise.", half=half, precisions=("float32",), deterministic=False)]


@hookimpl
def sdkpack_runtimes() -> Sequence[RuntimeInfo]:
    return [replace(plugin.sdkpack_runtimes()[0], name="onnxruntime")]
