"""The documents that cross the disk, one a module.

Names are loaded at first use: what runs a bundle builds no schema of a recipe.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdkpack.documents.base import Document
    from sdkpack.documents.evidence import Evidence
    from sdkpack.documents.manifest import Manifest
    from sdkpack.documents.pipeline import Pipeline
    from sdkpack.documents.plan import Plan
    from sdkpack.documents.recipe import Recipe
    from sdkpack.documents.report import Report
    from sdkpack.documents.trust import Trust

__all__ = ["Document", "Evidence", "Manifest", "Pipeline", "Plan", "Recipe", "Report", "Trust"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "base" if name == "Document" else name.lower()
    return getattr(import_module(f"{__name__}.{module}"), name)
