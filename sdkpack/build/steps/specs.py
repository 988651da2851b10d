"""Tensor specs as the JSON of stored results, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sdkpack.build.digests import canonical_json
from sdkpack.documents.manifest import TensorEntry
from sdkpack.types import TensorSpec

__all__ = ["entries", "entries_of", "specs_of"]


def entries(specs: Iterable[TensorSpec]) -> list[Any]:
    """Specs as JSON."""
    return [TensorEntry.of(spec).model_dump(mode="json", exclude_none=True) for spec in specs]


def entries_of(entries: Iterable[Any]) -> tuple[TensorEntry, ...]:
    """Tensor entries from JSON."""
    return tuple(TensorEntry.model_validate_json(canonical_json(entry)) for entry in entries)


def specs_of(entries: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """Specs from JSON."""
    return tuple(entry.spec() for entry in entries_of(entries))
