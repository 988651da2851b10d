"""The ONNX Runtime plugin's rows. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import CompressorInfo, Half, RuntimeInfo, hookimpl
from sdkpack_onnxruntime.float16 import Float16Params
from sdkpack_onnxruntime.params import OnnxRuntimeParams

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [
        RuntimeInfo(
            name="onnxruntime",
            summary="ONNX Runtime: the portable default, on CPUs and on what its installed build supports.",
            params=OnnxRuntimeParams,
            capabilities=("run.concurrent", "compare"),
            requires=("onnxruntime>=1.23",),
            compiler=Half(load="sdkpack_onnxruntime.compile:OnnxRuntimeCompiler"),
            runner=Half(load="sdkpack_onnxruntime.run:OnnxRuntimeRunner"),
        )
    ]


@hookimpl
def sdkpack_compressors() -> list[CompressorInfo]:
    return [
        CompressorInfo(
            name="float16",
            summary="Weights and computation in float16, inputs and outputs as they were: half the size.",
            params=Float16Params,
            requires=("onnxruntime>=1.23",),
            half=Half(load="sdkpack_onnxruntime.float16:Float16Compressor"),
            precisions=("float16",),
        )
    ]
