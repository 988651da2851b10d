"""The ONNX Runtime plugin's row. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import Half, RuntimeInfo, hookimpl
from sdkpack_onnxruntime.params import OnnxRuntimeParams

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [
        RuntimeInfo(
            name="onnxruntime",
            summary="ONNX Runtime: the portable default, on CPUs and on what its installed build supports.",
            params=OnnxRuntimeParams,
            capabilities=("run.concurrent",),
            requires=("onnxruntime>=1.23",),
            compiler=Half(load="sdkpack_onnxruntime.compile:OnnxRuntimeCompiler"),
            runner=Half(load="sdkpack_onnxruntime.run:OnnxRuntimeRunner"),
        )
    ]
