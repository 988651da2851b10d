"""The stable plugin API: all that a plugin imports from sdkpack, beside `sdkpack.types` and `sdkpack.errors`.

Names are loaded at first use: a job in a toolchain's environment needs its own request and result, and the other kinds
would double the time that it takes to start. Hooks need pluggy, which is loaded with `hookimpl` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sdkpack.plugin.compressor import Compressor, CompressRequest, CompressResult
    from sdkpack.plugin.context import StepContext
    from sdkpack.plugin.converter import (
        Converter,
        ConvertRequest,
        ConvertResult,
        EvaluateRequest,
        EvaluateResult,
        SniffRequest,
        SniffResult,
    )
    from sdkpack.plugin.exporter import BundleView, Exporter, ExportRequest, ExportResult
    from sdkpack.plugin.hookspecs import ENTRY_POINT_GROUP, hookimpl
    from sdkpack.plugin.info import (
        API_VERSION,
        AssetMarker,
        CompressorInfo,
        ConverterInfo,
        EnvironmentSpec,
        ExporterInfo,
        Half,
        KeyProviderInfo,
        Magic,
        OperatorInfo,
        OptimizerInfo,
        PluginInfo,
        Port,
        RuntimeInfo,
    )
    from sdkpack.plugin.keys import KeyProvider
    from sdkpack.plugin.operator import FileBytes, FileText, Lines, Operator
    from sdkpack.plugin.optimizer import Optimizer, OptimizeRequest, OptimizeResult
    from sdkpack.plugin.runtime import (
        Blob,
        Cache,
        CompiledModel,
        CompiledPart,
        Compiler,
        CompileRequest,
        CompileResult,
        Coverage,
        DeviceInfo,
        Fit,
        ModelFile,
        ModelInput,
        OpenRequest,
        PartFile,
        PipelineStep,
        Probe,
        Runner,
        RunnerSession,
    )

__all__ = [
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "AssetMarker",
    "Blob",
    "BundleView",
    "Cache",
    "CompileRequest",
    "CompileResult",
    "CompiledModel",
    "CompiledPart",
    "Compiler",
    "CompressRequest",
    "CompressResult",
    "Compressor",
    "CompressorInfo",
    "ConvertRequest",
    "ConvertResult",
    "Converter",
    "ConverterInfo",
    "Coverage",
    "DeviceInfo",
    "EnvironmentSpec",
    "EvaluateRequest",
    "EvaluateResult",
    "ExportRequest",
    "ExportResult",
    "Exporter",
    "ExporterInfo",
    "FileBytes",
    "FileText",
    "Fit",
    "Half",
    "KeyProvider",
    "KeyProviderInfo",
    "Lines",
    "Magic",
    "ModelFile",
    "ModelInput",
    "OpenRequest",
    "Operator",
    "OperatorInfo",
    "OptimizeRequest",
    "OptimizeResult",
    "Optimizer",
    "OptimizerInfo",
    "PartFile",
    "PipelineStep",
    "PluginInfo",
    "Port",
    "Probe",
    "Runner",
    "RunnerSession",
    "RuntimeInfo",
    "SniffRequest",
    "SniffResult",
    "StepContext",
    "hookimpl",
]

_HOME: Final = {
    "compressor": ("CompressRequest", "CompressResult", "Compressor"),
    "context": ("StepContext",),
    "converter": (
        "ConvertRequest", "ConvertResult", "Converter", "EvaluateRequest", "EvaluateResult", "SniffRequest",
        "SniffResult",
    ),
    "exporter": ("BundleView", "ExportRequest", "ExportResult", "Exporter"),
    "hookspecs": ("ENTRY_POINT_GROUP", "hookimpl"),
    "info": (
        "API_VERSION", "AssetMarker", "CompressorInfo", "ConverterInfo", "EnvironmentSpec", "ExporterInfo", "Half",
        "KeyProviderInfo", "Magic", "OperatorInfo", "OptimizerInfo", "PluginInfo", "Port", "RuntimeInfo",
    ),
    "keys": ("KeyProvider",),
    "operator": ("FileBytes", "FileText", "Lines", "Operator"),
    "optimizer": ("OptimizeRequest", "OptimizeResult", "Optimizer"),
    "runtime": (
        "Blob", "Cache", "CompileRequest", "CompileResult", "CompiledModel", "CompiledPart", "Compiler", "Coverage",
        "DeviceInfo", "Fit", "ModelFile", "ModelInput", "OpenRequest", "PartFile", "PipelineStep", "Probe", "Runner",
        "RunnerSession",
    ),
}  # fmt: skip
"""Module -> the names that it brings."""


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            found = getattr(import_module(f"sdkpack.plugin.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
