"""A small real project to work on: a model, a recipe with a pipeline, keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdkpack.cli.main import main

RECIPE = """\
recipe = 1
bundle = { name = "shapes", version = "1.2.0", sequence = 3, license = "MIT", summary = "Tells shapes." }
models.net.source = "net.onnx"
targets.cpu.runtime = "onnxruntime"

[pipelines.classify]
inputs.x = "tensor(float32, [1, 4])"
params.least = { default = 0.0, min = 0.0, max = 1.0, summary = "least score" }
steps = [
  { model = "net" },
  { op = "scores.softmax" },
  { op = "scores.top_k", with = { k = 2, labels = "labels.txt" }, as = "classes" },
  { op = "list.filter", in = "classes", with = { key = "score", threshold = "$least" }, as = "best" },
]
"""
SEALED = """
[encrypt]
recipients = ["customer.pub"]

[sign]
key = "publisher.key"

[release.wheel]
name = "acme-shapes"
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def sdkpack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Command]:
    """Runs a command in this process, with a store of its own."""
    monkeypatch.setenv("SDKPACK_STORE", str(tmp_path_factory.mktemp("store")))

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = stop.value.code
        return Ended(code if isinstance(code, int) else 1, captured.out, captured.err)

    yield run


def write_model(path: Path) -> None:
    """y = x W + b, with 4 inputs and 3 outputs, seeded."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    weights = {
        "w": rng.standard_normal((4, 3)).astype(np.float32),
        "b": rng.standard_normal(3).astype(np.float32),
    }
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


@pytest.fixture
def project(tmp_path: Path, sdkpack: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that a sealed pack needs; the current folder while the test runs."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "net.onnx")
    (tmp_path / "labels.txt").write_text("circle\nsquare\ntriangle\n")
    (tmp_path / "plain.toml").write_text(RECIPE)
    (tmp_path / "recipe.toml").write_text(RECIPE + SEALED)
    assert sdkpack("keys", "new", "recipient", "customer").code == 0
    assert sdkpack("keys", "new", "signing", "publisher").code == 0
    return tmp_path


@pytest.fixture
def bundle(project: Path, sdkpack: Command) -> Path:
    """The sealed bundle."""
    ended = sdkpack("pack")
    assert ended.code == 0, ended.err
    return project / "shapes-1.2.0.sdkpack"


@pytest.fixture
def plain_bundle(project: Path, sdkpack: Command) -> Path:
    ended = sdkpack("pack", "plain.toml", "-o", "plain.sdkpack")
    assert ended.code == 0, ended.err
    return project / "plain.sdkpack"


@pytest.fixture
def x(tmp_path: Path) -> Path:
    import numpy as np

    path = tmp_path / "x.npy"
    np.save(path, np.array([[1.0, -2.0, 0.5, 3.0]], dtype=np.float32))
    return path
