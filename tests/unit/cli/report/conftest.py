"""A real run of the guard over a small model."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest

from sdkpack.build.convert import Converted, convert
from sdkpack.build.progress import NullReporter
from sdkpack.build.runner import StepRunner
from sdkpack.build.store import Store
from sdkpack.documents.recipe import ModelSection
from sdkpack.host.registry import Registry
from tests.unit.cli.report.pages import model


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    """One pass took the Identity nodes out, another one changed a number and was undone."""
    folder = tmp_path_factory.mktemp("report")
    onnx.save(model(), str(folder / "net.onnx"))
    registry = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.faulty"])
    settings = {"level": "safe", "with": {"test.fault": {"fault": "change"}}}
    section = ModelSection.from_object({"source": "x", "optimize": settings})
    with Store(folder / "store") as store, StepRunner.threads(1) as executor:
        runner = StepRunner(
            store=store, executor=executor, reporter=NullReporter(), environment={"PATH": "/usr/bin:/bin"}
        )
        yield convert(folder / "net.onnx", registry=registry, runner=runner, section=section, out=folder / "small.onnx")
