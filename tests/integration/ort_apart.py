"""The onnxruntime plugin with its runner in an environment of its own: the same classes, another descriptor."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

from sdkpack_onnxruntime import plugin

from sdkpack.plugin import EnvironmentSpec, Half, RuntimeInfo, hookimpl

SDKPACK_API = (1, 0)
ENVIRONMENT = EnvironmentSpec(
    # The versions of this process: the numbers are compared bit by bit.
    requirements=tuple(f"{name}=={version(name)}" for name in ("onnxruntime", "numpy")),
    smoke_test="import numpy, onnxruntime; onnxruntime.get_available_providers()",
    size_bytes=200 << 20,
)


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    (info,) = plugin.sdkpack_runtimes()
    assert info.runner is not None
    half = Half(load=info.runner.load, isolation="environment", environment=ENVIRONMENT)
    return [replace(info, runner=half)]
