from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from sdkpack.build.pack import PackResult, pack
from sdkpack.build.progress import NullReporter
from sdkpack.build.runner import StepRunner
from sdkpack.build.store import Store
from sdkpack.host.registry import Registry
from tests.unit.model.models import matmul

RECIPE = """
recipe = 1
bundle = { name = "tiny", version = "1.0.0", sequence = 3, license = "MIT" }
models.net.source = "net.onnx"
targets.cpu.runtime = "onnxruntime"
"""


class Recorder(NullReporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.stored: list[str] = []
        self.warnings: list[str] = []
        self.steps = 0
        self.texts: list[str] = []
        self.written: list[tuple[int, int]] = []

    def planned(self, steps: int) -> None:
        self.steps += steps

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        assert fraction is None or 0 <= fraction <= 1
        self.texts.append(text)

    def finished(self, step: str, seconds: float) -> None:
        assert seconds >= 0
        self.ran.append(step)

    def cached(self, step: str) -> None:
        self.stored.append(step)

    def warned(self, text: str) -> None:
        self.warnings.append(text)

    def wrote(self, done_bytes: int, total_bytes: int) -> None:
        self.written.append((done_bytes, total_bytes))


@pytest.fixture(scope="session")
def registry() -> Registry:
    found = Registry((*Registry.scan().plugins, *Registry.of_modules(["tests.unit.build.plugins"]).plugins))
    assert [plugin.reason for plugin in found.plugins] == [""] * len(found.plugins)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


@pytest.fixture
def reporter() -> Recorder:
    return Recorder()


@pytest.fixture
def runner(store: Store, reporter: Recorder) -> Iterator[StepRunner]:
    with StepRunner.threads(2) as executor:
        yield StepRunner(store=store, executor=executor, reporter=reporter, environment={"PATH": "/usr/bin:/bin"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe of one small model."""
    path = tmp_path / "recipe"
    path.mkdir()
    onnx.save(matmul(), path / "net.onnx")
    (path / "recipe.toml").write_text(RECIPE)
    return path


@pytest.fixture
def packed(folder: Path, registry: Registry, store: Store, reporter: Recorder) -> Callable[..., PackResult]:
    def run(text: str | None = None, **options: Any) -> PackResult:
        if text is not None:
            (folder / "recipe.toml").write_text(text)
        defaults: dict[str, Any] = {
            "registry": registry,
            "store": store,
            "reporter": reporter,
            "out": folder.parent / "out.sdkpack",
        }
        return pack(folder, **{**defaults, **options})

    return run
