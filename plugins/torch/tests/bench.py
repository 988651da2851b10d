"""Runs a converter in its environment, as a build does."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sdkpack.build.context import BuildContext, step_context
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ConvertRequest, EvaluateRequest
from sdkpack.types import TensorSpec

Arrays = Mapping[str, Any]
_PACKAGES = ("sdkpack", "sdkpack_job", "sdkpack_torch", "pluggy")


class Recorder(NullReporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def progressed(self, step: str, fraction: float | None, text: str) -> None:
        self.texts.append(text)


class Converted:
    """An ONNX file that outlives its job, and what was asked for."""

    def __init__(self, bench: Bench, request: ConvertRequest, result: Any, path: Path, name: str) -> None:
        self.bench, self.request, self.path, self.name = bench, request, path, name
        self.notes, self.tools = result.notes, result.tools

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """With onnxruntime."""
        import onnxruntime

        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def evaluate(self, *samples: Arrays, tensors: Sequence[str] = ()) -> list[dict[str, Any]]:
        """With the source's own framework."""
        return self.bench.evaluate(self, samples, tuple(tensors))

    @property
    def graph(self) -> Any:
        import onnx

        return onnx.load(self.path).graph

    @property
    def opset(self) -> int:
        import onnx

        return {each.domain: each.version for each in onnx.load(self.path).opset_import}[""]

    def shapes(self) -> dict[str, list[Any]]:
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*self.graph.input, *self.graph.output)
        }


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.host = ToolHost(environ=dict(os.environ))
        self.registry = Registry.of_modules(["sdkpack_torch.plugin"])
        self.reporter = Recorder()

    def context(self) -> AbstractContextManager[BuildContext]:
        return step_context(
            "net/convert", plugin="torch", store=self.store, reporter=self.reporter, cancel=threading.Event(),
            environment={},
        )  # fmt: skip

    def tool(self, name: str) -> Any:
        row = self.registry.converter(name)
        return self.host.open(row, row.info.half)

    def convert(
        self,
        name: str,
        source: Path,
        *,
        inputs: Mapping[str, tuple[str, Sequence[int | str]]] | None = None,
        samples: Sequence[Arrays] = (),
        files: Mapping[str, Path] | None = None,
        opset: int | None = None,
        allow_code: bool = False,
        **params: Any,
    ) -> Converted:
        info = self.registry.converter(name).info
        assert info.params is not None
        number = len(list(self.folder.iterdir()))
        request = ConvertRequest(
            name="net", source=source, files=files or {}, params=info.params(**params), opset=opset,
            inputs=tuple(
                TensorSpec(name=key, dtype=dtype, shape=tuple(shape)) for key, (dtype, shape) in (inputs or {}).items()
            ),
            samples=tuple(self.save(f"given{number}-{place}", sample) for place, sample in enumerate(samples)),
            allow_code=allow_code,
        )  # fmt: skip
        with self.context() as context:
            result = self.tool(name).convert(request, context)
            kept = self.folder / f"model{number}"
            kept.mkdir()
            for path in result.model.parent.iterdir():
                path.rename(kept / path.name)
        return Converted(self, request, result, kept / result.model.name, name)

    def evaluate(self, converted: Converted, samples: Sequence[Arrays], tensors: tuple[str, ...]) -> list[Any]:
        request = EvaluateRequest(
            conversion=converted.request, model=converted.path, tensors=tensors,
            samples=tuple(self.save(f"sample{place}", sample) for place, sample in enumerate(samples)),
        )  # fmt: skip
        with self.context() as context:
            result = self.tool(converted.name).evaluate(request, context)
            return [load(path) for path in result.outputs]

    def save(self, name: str, arrays: Arrays) -> Path:
        path = self.folder / f"{name}.npz"
        np.savez(path, **arrays)
        return path


def load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def error_of(found: Any, reference: Any) -> float:
    """max |a - b| / max |b|."""
    assert found.shape == reference.shape, (found.shape, reference.shape)
    scale = float(np.abs(reference).max()) or 1.0
    return float(np.abs(found.astype("f8") - reference.astype("f8")).max()) / scale


def attempt_all(python: Path, folder: Path, cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Type, message and hint of what became of each case; see `cases.py`."""
    packages = {name: str(Path(str(find_spec(name).origin)).parents[1]) for name in _PACKAGES}  # type: ignore[union-attr]
    asked = folder / "cases.json"
    asked.write_text(json.dumps({"job": packages["sdkpack_job"], "packages": packages, "cases": cases}, default=str))
    done = subprocess.run(
        [python, "-I", Path(__file__).with_name("cases.py"), asked],
        check=True, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1", "HOME": str(folder)},
    )  # fmt: skip
    return [tuple(each) for each in json.loads(done.stdout.splitlines()[-1])]
