"""Pipelines: from what the author writes to what runs.

`normalize` writes out every choice of a recipe's pipeline, `check` proves that the pieces fit, and the
`CheckedPipeline` it returns runs.
"""

from __future__ import annotations

from sdkpack.pipeline.call import ModelCall
from sdkpack.pipeline.check import check
from sdkpack.pipeline.deadline import Deadline
from sdkpack.pipeline.nodes import ModelSignature
from sdkpack.pipeline.normalize import AssetResolver, normalize
from sdkpack.pipeline.operators import AssetReader
from sdkpack.pipeline.run import CheckedPipeline, Trace

__all__ = [
    "AssetReader",
    "AssetResolver",
    "CheckedPipeline",
    "Deadline",
    "ModelCall",
    "ModelSignature",
    "Trace",
    "check",
    "normalize",
]
