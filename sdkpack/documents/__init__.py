"""The documents that cross the disk, one a module."""

from __future__ import annotations

from sdkpack.documents.base import Document
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.manifest import Manifest
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.plan import Plan
from sdkpack.documents.recipe import Recipe
from sdkpack.documents.report import Report
from sdkpack.documents.trust import Trust

__all__ = ["Document", "Evidence", "Manifest", "Pipeline", "Plan", "Recipe", "Report", "Trust"]
