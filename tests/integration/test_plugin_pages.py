"""The smallest plugin of each page works as it stands there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sdkpack
from sdkpack.build.pack import PackResult, pack
from sdkpack.build.store import Store
from sdkpack.errors import DocumentError, GateError, ModelError
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin import ModelInput, OptimizeRequest
from tests.unit.model.models import matmul

PAGES = Path(__file__).parents[2] / "docs" / "plugins"
RECIPE = """
recipe = 1
bundle = {{ name = "page", version = "1.0.0" }}
targets.cpu.runtime = "onnxruntime"
models.net.source = "{source}"
{more}
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a page's first Python block a plugin, and finds it."""

    def load(name: str) -> Registry:
        code = re.findall(r"```python\n(.*?)```", (PAGES / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)[0]
        (tmp_path / f"page_{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        found = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", f"page_{name}"])
        assert [state.reason for state in found.plugins] == ["", "", ""]
        return found

    return load


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Any]:
    with Store(tmp_path / "store") as store:

        def run(registry: Registry, source: str, more: str = "") -> PackResult:
            (tmp_path / "recipe.toml").write_text(RECIPE.format(source=source, more=more))
            return pack(tmp_path, registry=registry, store=store, out=tmp_path / "page.sdkpack", overwrite=True)

        yield run


def test_converters(page: Any, build: Any, tmp_path: Path) -> None:
    registry = page("converter")
    (tmp_path / "net.line").write_text("LINE 2 0.5")
    result = build(registry, "net.line")
    with sdkpack.open(result.path, allow_unsigned=True) as session:
        assert session.run("net", {"x": np.array([1, 2], np.float32)})["y"].tolist() == [2.5, 4.5]
    (tmp_path / "net.line").write_text("LINE 2")
    with pytest.raises(ModelError, match="expected LINE and two numbers"):
        build(registry, "net.line")


def test_compressors(page: Any, build: Any, tmp_path: Path) -> None:
    registry = page("compressor")
    onnx.save(matmul(), tmp_path / "net.onnx")
    text = 'models.net.compress = {{ scheme = "acme.prune", max_error = {limit}, with = {{ share = {share} }} }}'
    loss = build(registry, "net.onnx", text.format(limit=0.1, share=0.1)).manifest.models["net"].variants[0].evidence[0]
    assert loss.check == "loss"
    assert 0 < loss.tensors[0].normalized_error < 0.1
    with pytest.raises(GateError, match="loses too much"):
        build(registry, "net.onnx", text.format(limit=0.1, share=0.9))
    with pytest.raises(DocumentError, match="share must be in"):
        build(registry, "net.onnx", text.format(limit=0.1, share=1.5))


def test_optimizers(page: Any, tmp_path: Path) -> None:
    row = page("optimizer").optimizer("acme.no_doc_strings")
    tool = ToolHost(environ={}).open(row, row.info.half)
    model = matmul()
    model.graph.node[0].doc_string = "made on somebody's machine"
    onnx.save(model, tmp_path / "net.onnx")

    class Context:
        work = tmp_path

    def request(path: Path) -> OptimizeRequest:
        source = ModelInput(name="net", path=path, graph=path, weights=path, tensors=path, inputs=(), outputs=())
        return OptimizeRequest(model=source)

    result = tool.optimize(request(tmp_path / "net.onnx"), Context())
    assert result.modified
    assert b"somebody" not in result.model.read_bytes()
    assert not tool.optimize(request(result.model), Context()).modified
