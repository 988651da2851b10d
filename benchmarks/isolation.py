"""Isolation: what a job in a warm environment costs beside the same call in this process."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import interleaved, machine, show
from sdkpack.build.context import step_context
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.host.registry import PluginState, Registered
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConverterInfo, ConvertRequest, EnvironmentSpec, Half

RUNS = 21


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        host = ToolHost(environ={**os.environ, "SDKPACK_ENVIRONMENTS": f"{folder}/environments"})
        source = Path(folder) / "model"
        source.write_bytes(os.urandom(1 << 20))
        begin = time.perf_counter()
        apart = _open(host, "environment")
        cold = time.perf_counter() - begin
        sides = {
            "in this process": _job(_open(host, "in-process"), source, store),
            "in a warm environment": _job(apart, source, store),
            "found, opened and run": lambda: _timed(_job(_open(host, "environment"), source, store)),
        }
        figures = interleaved(sides, RUNS)
    base = figures["in this process"]
    rows = [("1 MiB copied", "s", "more than in-process", "goal")]
    rows += [
        (name, f"{value:.4f}", f"{value - base:+.4f}", "" if name == "in this process" else "0.2")
        for name, value in figures.items()
    ]
    rows.append(("building an empty environment, once", f"{cold:.3f}", "", ""))
    show(f"Jobs apart, medians of {RUNS} interleaved runs ({machine()})", rows)


def _open(host: ToolHost, isolation: Any) -> Any:
    spec = EnvironmentSpec(requirements=(), smoke_test="import json") if isolation == "environment" else None
    half = Half(load="benchmarks.copier:Copier", isolation=isolation, environment=spec)
    info = ConverterInfo(name="bench.copier", summary="Copies.", half=half, reads=("application/octet-stream",))
    state = PluginState(name="bench", module="benchmarks.copier", distribution="", version="", api=(1, 0))
    return host.open(Registered(info, state), half)


def _job(tool: Any, source: Path, store: Store) -> Callable[[], float]:
    def run() -> float:
        with step_context(
            "bench", plugin="bench", store=store, reporter=NullReporter(), cancel=threading.Event(), environment={}
        ) as context:
            request = ConvertRequest(name="net", source=source)
            return _timed(lambda: tool.convert(request, context))

    return run


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
