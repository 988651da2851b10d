"""Runs the plugin's converters the way a build does, in their own environment, and ONNX models in onnxruntime."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sdkpack_tensorflow
from sdkpack_tensorflow.plugin import ENVIRONMENT

from sdkpack.build.context import BuildContext
from sdkpack.build.progress import NullReporter
from sdkpack.host.environments import Environments, default_environments
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConvertRequest, EvaluateRequest

__all__ = [
    "MODELS",
    "Bench",
    "Converted",
    "canary",
    "error_of",
    "load",
    "made_models",
    "needs_models",
    "python_of",
    "run_many",
    "run_onnx",
]

ROOT = Path(__file__).parents[3]
MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", ROOT.parent / "shared" / "models"))
SCRIPT = Path(__file__).with_name("make_models.py")

needs_models = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder"
)


@cache
def python_of() -> Path:
    """The Python of the plugin's environment; built by tools/environments.py, never by a test: 2 GB."""
    found = Environments(default_environments(os.environ), dict(os.environ)).find(ENVIRONMENT)
    if found is None:
        pytest.skip("TensorFlow's environment is not built: sdkpack plugins env build tensorflow.saved-model")
    return found.python


@cache
def made_models() -> Path:
    """The folder of the models that `make_models.py` makes; made once for each version of the script."""
    python = python_of()
    digest = hashlib.sha256(SCRIPT.read_bytes() + python.parent.parent.name.encode()).hexdigest()[:16]
    parent = ROOT / "build" / "tensorflow-models"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / digest
    with (parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            making = Path(tempfile.mkdtemp(dir=parent))
            command = [python, SCRIPT, making, _canary(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            making.rename(folder)
    return folder


def _canary(folder: Path) -> Path:
    return folder.with_suffix(".fired")


def canary() -> Path:
    """What the code in the models writes where nothing stops it."""
    return _canary(made_models())


class _Telling(NullReporter):
    def __init__(self, said: list[str]) -> None:
        self._said = said

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        self._said.append(text)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion gave."""

    model: Path
    notes: tuple[str, ...]
    tools: Mapping[str, str]
    request: ConvertRequest
    work: Path


@dataclass(kw_only=True)
class Bench:
    """Converters in their own processes."""

    folder: Path
    registry: Registry = field(default_factory=lambda: Registry.of_modules(["sdkpack_tensorflow.plugin"]))
    said: list[str] = field(default_factory=list)
    isolation: dict[str, str] = field(default_factory=dict)

    def tool(self, name: str) -> Any:
        python_of()
        row = self.registry.converter(name)
        return ToolHost(environ=dict(os.environ)).open(row, row.info.half)

    def context(self) -> BuildContext:
        place = Path(tempfile.mkdtemp(dir=self.folder))
        (place / "work").mkdir(mode=0o700)
        return BuildContext(
            step="test",
            work=place / "work",
            log_file=place / "log",
            log=logging.getLogger("sdkpack.test"),
            reporter=_Telling(self.said),
            cancel=threading.Event(),
            environment=dict(os.environ),
        )

    def convert(self, name: str, source: Path, **settings: Any) -> Converted:
        request = ConvertRequest(name="net", source=source, **settings)
        context = self.context()
        result = self.tool(name).convert(request, context)
        self.isolation = context.isolation
        return Converted(model=result.model, notes=result.notes, tools=result.tools, request=request, work=context.work)

    def evaluate(
        self, name: str, converted: Converted, *samples: Mapping[str, Any], tensors: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        context = self.context()
        paths = []
        for number, sample in enumerate(samples):
            paths.append(self.folder / f"{context.work.parent.name}-{number}.npz")
            np.savez(paths[-1], **sample)
        request = EvaluateRequest(
            conversion=converted.request, model=converted.model, samples=tuple(paths), tensors=tensors
        )
        result = self.tool(name).evaluate(request, context)
        return [load(path) for path in result.outputs]


def load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def run_onnx(
    model: Path | Any, inputs: Mapping[str, Any], *, optimized: bool = True, tensors: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Outputs, and inner tensors beside them."""
    import onnx
    import onnxruntime

    loaded = onnx.load(model)
    if tensors:
        known = {value.name: value for value in onnx.shape_inference.infer_shapes(loaded).graph.value_info}
        loaded.graph.output.extend(known[name] for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def error_of(found: Any, expected: Any) -> float:
    """The greatest difference as a share of the greatest value."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    difference = np.abs(found.astype("f8") - expected.astype("f8")).max()
    return float(difference / max(np.abs(expected.astype("f8")).max(), 1e-30))


def run_many(folder: Path, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs jobs in one process; see `many.py`."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    plugin = Path(sdkpack_tensorflow.__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(plugin)]), "HOME": str(folder)}
    command = [python_of(), SCRIPT.with_name("many.py"), file]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return answers
