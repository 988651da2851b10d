"""What sdkpack itself brings, through the same hooks as everybody."""

from __future__ import annotations

from typing import Final

from sdkpack.builtin.operators.rows import operator_rows
from sdkpack.builtin.wheel.params import WheelParams
from sdkpack.plugin import ExporterInfo, KeyProviderInfo, OperatorInfo, hookimpl

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_exporters() -> list[ExporterInfo]:
    return [
        ExporterInfo(
            name="wheel",
            summary="A product-named Python wheel: bundle, typed API, console command, licences.",
            params=WheelParams,
            load="sdkpack.builtin.wheel.exporter:WheelExporter",
            time_limit_s=3600.0,
        )
    ]


@hookimpl
def sdkpack_key_providers() -> list[KeyProviderInfo]:
    return [
        KeyProviderInfo(
            name="keys.file",
            summary="Key files on this machine: file:PATH",
            load="sdkpack.builtin.keys:FileKeys",
            capabilities=("load",),
            schemes=("file",),
        ),
        KeyProviderInfo(
            name="keys.env",
            summary="Key files in environment variables: env:NAME",
            load="sdkpack.builtin.keys:EnvironmentKeys",
            capabilities=("load",),
            schemes=("env",),
        ),
    ]


@hookimpl
def sdkpack_operators() -> list[OperatorInfo]:
    return operator_rows()
