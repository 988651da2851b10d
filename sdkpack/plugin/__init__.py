"""The stable plugin API: all that a plugin imports from sdkpack, beside `sdkpack.types` and `sdkpack.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from sdkpack.plugin.hookspecs import ENTRY_POINT_GROUP, hookimpl

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


def __getattr__(name: str) -> Any:
    # Hooks need pluggy; a toolchain's own environment, where only requests and results are wanted, does not have it.
    if name in ("ENTRY_POINT_GROUP", "hookimpl"):
        from sdkpack.plugin import hookspecs

        return getattr(hookspecs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
