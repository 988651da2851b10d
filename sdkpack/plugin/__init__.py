"""The stable plugin API: all that a plugin imports from sdkpack, beside `sdkpack.types` and `sdkpack.errors`."""

from __future__ import annotations

from sdkpack.plugin.context import StepContext
from sdkpack.plugin.exporter import BundleView, Exporter, ExportRequest, ExportResult
from sdkpack.plugin.hookspecs import ENTRY_POINT_GROUP, hookimpl
from sdkpack.plugin.info import (
    API_VERSION,
    AssetMarker,
    ExporterInfo,
    Half,
    KeyProviderInfo,
    OperatorInfo,
    PluginInfo,
    Port,
    RuntimeInfo,
)
from sdkpack.plugin.keys import KeyProvider
from sdkpack.plugin.operator import FileBytes, FileText, Lines, Operator
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
    "Coverage",
    "DeviceInfo",
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
    "ModelInput",
    "OpenRequest",
    "Operator",
    "OperatorInfo",
    "PartFile",
    "PipelineStep",
    "PluginInfo",
    "Port",
    "Probe",
    "Runner",
    "RunnerSession",
    "RuntimeInfo",
    "StepContext",
    "hookimpl",
]
