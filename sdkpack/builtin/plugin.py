"""What sdkpack itself brings, through the same hooks as everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sdkpack.plugin import KeyProviderInfo, hookimpl

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_key_providers() -> Sequence[KeyProviderInfo]:
    return (
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
    )
