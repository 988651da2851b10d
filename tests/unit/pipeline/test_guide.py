"""The pipelines of the guide are pipelines."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sdkpack.documents.recipe import PipelineSection
from sdkpack.host.registry import Registry
from sdkpack.pipeline import ModelSignature, check, normalize
from sdkpack.types import TensorSpec

GUIDE = Path(__file__).parents[3] / "docs" / "pipelines.md"
BLOCKS = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_every_pipeline_in_the_guide_fits_together(number: int) -> None:
    pytest.importorskip("sdkpack_vision", reason="the guide uses operators of sdkpack-vision, which is not installed")
    assert len(BLOCKS) == 2
    registry = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_vision.plugin"])
    net = ModelSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("N", 3, "H", "W")),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("N", "C")),),
    )
    section = PipelineSection.model_validate(tomllib.loads(BLOCKS[number]))
    pipeline = normalize("p", section, registry=registry, models={"net": net}, assets=lambda reference, _: reference)
    check("p", pipeline, registry=registry, models={"net": net}, assets=lambda path: b"")
