"""The hooks of a plugin module: each takes nothing and returns rows.

A plugin is a module named by an entry point in the group `sdkpack.plugins.v1`. It says `SDKPACK_API = (1, 0)` and
implements any of these hooks with `@hookimpl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pluggy

from sdkpack.plugin.info import (
    CompressorInfo,
    ConverterInfo,
    ExporterInfo,
    KeyProviderInfo,
    OperatorInfo,
    OptimizerInfo,
    RuntimeInfo,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "PROJECT",
    "hookimpl",
    "sdkpack_compressors",
    "sdkpack_converters",
    "sdkpack_exporters",
    "sdkpack_key_providers",
    "sdkpack_operators",
    "sdkpack_optimizers",
    "sdkpack_runtimes",
]

PROJECT: Final = "sdkpack"
ENTRY_POINT_GROUP: Final = "sdkpack.plugins.v1"

_hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@_hookspec
def sdkpack_operators() -> Sequence[OperatorInfo]:  # type: ignore[empty-body]
    """Operators for pipelines."""


@_hookspec
def sdkpack_runtimes() -> Sequence[RuntimeInfo]:  # type: ignore[empty-body]
    """Inference libraries: what compiles for them and what runs them."""


@_hookspec
def sdkpack_converters() -> Sequence[ConverterInfo]:  # type: ignore[empty-body]
    """Readers of other model formats."""


@_hookspec
def sdkpack_optimizers() -> Sequence[OptimizerInfo]:  # type: ignore[empty-body]
    """Changes that keep what a model means."""


@_hookspec
def sdkpack_compressors() -> Sequence[CompressorInfo]:  # type: ignore[empty-body]
    """Ways of spending accuracy for size and speed, within a budget."""


@_hookspec
def sdkpack_exporters() -> Sequence[ExporterInfo]:  # type: ignore[empty-body]
    """Makers of releases."""


@_hookspec
def sdkpack_key_providers() -> Sequence[KeyProviderInfo]:  # type: ignore[empty-body]
    """Places where keys live."""
