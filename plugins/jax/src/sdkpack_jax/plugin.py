"""The row of this plugin. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import ConverterInfo, EnvironmentSpec, Half, hookimpl
from sdkpack_jax.params import JaxParams

__all__ = ["ENVIRONMENT", "SDKPACK_API", "sdkpack_converters"]

SDKPACK_API: Final = (1, 0)

ENVIRONMENT: Final = EnvironmentSpec(
    requirements=(
        "jax2onnx==0.17.1", "jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0",
    ),
    smoke_test="import jax2onnx, jax, onnxruntime\njax2onnx.to_onnx(jax.numpy.sin, [('N', 2)], opset=18)\n",
    size_bytes=1000 << 20,
)  # fmt: skip


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="jax",
            summary="A JAX function of a Python file, with its weights: code, run only where the author allows it.",
            params=JaxParams,
            capabilities=("evaluate", "code"),
            half=Half(
                load="sdkpack_jax.convert:JaxConverter", isolation="environment", environment=ENVIRONMENT,
                memory_limit_bytes=16 << 30,
            ),
            # No magic and no suffix: what a Python file is, nobody can tell from its content.
            reads=("text/x-python",),
        )
    ]  # fmt: skip
