"""A registry of small operators, and short ways to normalize and check."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.recipe import PipelineSection
from sdkpack.errors import FileError
from sdkpack.host.registry import Registry
from sdkpack.pipeline.check import check
from sdkpack.pipeline.nodes import ModelSignature
from sdkpack.pipeline.normalize import normalize
from sdkpack.pipeline.run import CheckedPipeline
from sdkpack.plugin import AssetMarker
from sdkpack.types import TensorSpec

FILES = {"labels.txt": b"cat\ndog\n", "latin.txt": b"caf\xe9\n"}

MODELS = {
    # Sums each item over height and width: one row an item, so batching must not change the order.
    "net": ModelSignature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=("N", 1, "H", "W")),),
        outputs=(TensorSpec(name="/out:0", dtype="float32", shape=("N", 1)),),
    ),
    "fixed": ModelSignature(
        inputs=(TensorSpec(name="image", dtype="float32", shape=(1, 1, 2, 640)),),
        outputs=(TensorSpec(name="sum", dtype="float32", shape=(1, 1)),),
    ),
}

Normalize = Callable[..., Pipeline]
Check = Callable[..., CheckedPipeline]


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    name = "sdkpack_tests_fake_plugin"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("fake_plugin.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    registry = Registry.of_modules([name])
    assert registry.plugins[0].reason == ""
    yield registry
    del sys.modules[name]


def pack_asset(reference: str, marker: AssetMarker) -> str:
    if reference not in FILES:
        raise FileError(f"no file {reference!r}", hint="look again")
    return f"assets/{reference}"


def read_asset(path: str) -> bytes:
    return FILES[path.removeprefix("assets/")]


@pytest.fixture
def normalized(registry: Registry) -> Normalize:
    """Pipeline from the keys of its section."""

    def make(
        *steps: dict[str, Any], inputs: dict[str, str] | None = None, read: Any = read_asset, **more: Any
    ) -> Pipeline:
        section = PipelineSection.model_validate(
            {"inputs": inputs or {"blob": "bytes"}, "steps": list(steps), **more}, strict=False
        )
        return normalize("p", section, registry=registry, models=MODELS, assets=pack_asset, read=read)

    return make


@pytest.fixture
def verify(registry: Registry) -> Callable[[dict[str, Any]], CheckedPipeline]:
    """CheckedPipeline from a pipeline's normal form as JSON values."""

    def make(form: dict[str, Any]) -> CheckedPipeline:
        pipeline = Pipeline.model_validate(form)
        return check("p", pipeline, registry=registry, models=MODELS, assets=read_asset)

    return make


@pytest.fixture
def checked(normalized: Normalize, registry: Registry) -> Check:
    """CheckedPipeline from the keys of its section."""

    def make(*steps: dict[str, Any], **more: Any) -> CheckedPipeline:
        return check("p", normalized(*steps, **more), registry=registry, models=MODELS, assets=read_asset)

    return make
