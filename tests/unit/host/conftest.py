from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.context import BuildContext, step_context
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.host.registry import PluginState, Registered
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConvertRequest, ConvertResult, PluginInfo
from tests.unit.host import toolchain

CANARY = "canary-a91e"


class Recorder(NullReporter):
    def __init__(self) -> None:
        self.texts: list[tuple[float | None, str]] = []

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        self.texts.append((fraction, text))


class Bench:
    """What a step gives a tool, and what became of it."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.host = ToolHost(environ=environ)
        self.reporter = Recorder()
        self.cancel = threading.Event()
        self.store = Store(folder / "store")
        self.source = folder / "secrets" / "net.txt"
        self.source.parent.mkdir()
        self.source.write_text("mine")
        self.found = ""
        self.isolation: dict[str, str] = {}
        self.log_of_job = ""

    @property
    def log(self) -> str:
        return next((self.store.root / "logs").glob("*.log")).read_text(errors="replace")

    @contextmanager
    def context(self) -> Iterator[BuildContext]:
        with step_context(
            "net/convert", plugin="test.text", store=self.store, reporter=self.reporter, cancel=self.cancel,
            environment={},
        ) as context:  # fmt: skip
            yield context

    def open(self, info: PluginInfo | None = None) -> Any:
        row = registered(info or toolchain.info())
        return self.host.open(row, row.info.half)

    def convert(self, fault: str = "", target: str = "", *, tool: Any = None, **options: Any) -> tuple[Any, bytes]:
        tool = tool or self.open(toolchain.info(**options))
        request = ConvertRequest(name="net", source=self.source, params=toolchain.Params(fault=fault, target=target))
        with self.context() as context:
            result = tool.convert(request, context)
            self.isolation = context.isolation
            assert isinstance(result, ConvertResult)
            found = list(context.work.glob("**/found"))
            self.found = found[0].read_text() if found else ""
            self.log_of_job = context.log_file.read_text(errors="replace")
            return result, result.model.read_bytes()


def registered(info: PluginInfo) -> Registered[Any]:
    state = PluginState(name="test", module=toolchain.__name__, distribution="", version="", api=(1, 0))
    return Registered(info, state)


@pytest.fixture(scope="session")
def environments_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: the empty environment is built once."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def bench(tmp_path: Path, environments_root: Path) -> Iterator[Bench]:
    environ = {**os.environ, "SDKPACK_ENVIRONMENTS": str(environments_root), "ACME_TOKEN": CANARY}
    made = Bench(tmp_path, environ)
    yield made
    made.store.close()


Convert = Callable[..., tuple[ConvertResult, bytes]]
