"""Exporters: from a bundle to what a customer installs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext

__all__ = ["BundleView", "ExportRequest", "ExportResult", "Exporter"]


class BundleView(Protocol):
    """A verified bundle, as an exporter sees it."""

    @property
    def path(self) -> Path:
        """The bundle file."""
        ...

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest as JSON values; see schemas/manifest-v1.json."""
        ...

    @property
    def encrypted(self) -> bool: ...

    @property
    def identity(self) -> str:
        """`sha256:...` of what is signed."""
        ...

    def read(self, path: str) -> bytes:
        """One file of the bundle, decrypted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    bundle: BundleView
    params: Any
    """An instance of the descriptor's params dataclass."""
    trusted_keys: tuple[str, ...] = ()
    """Public keys of the publisher in key-file text form: the release's trust anchor."""
    distributions: Mapping[str, str] = field(default_factory=dict)
    """What the release needs at run time: distribution name -> version that the bundle was checked with."""
    plugin_modules: tuple[str, ...] = ()
    """Modules whose plugins the bundle needs, for `sdkpack.open(..., plugins=...)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    files: tuple[Path, ...]
    """In the work folder; the core moves them to where the user wants them."""
    notes: tuple[str, ...] = ()
    """What to do next, for people."""


@runtime_checkable
class Exporter(Protocol):
    """Writes a release. Same bundle, same params: same bytes."""

    def export(self, request: ExportRequest, context: StepContext) -> ExportResult: ...
