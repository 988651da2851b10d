"""Detectors as MMDetection builds them: from weights or a program to one pipeline that finds torch's boxes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdkpack
from plugins.torch.tests.bench import Arrays, load
from sdkpack.build.pack import pack
from sdkpack.build.store import Store
from sdkpack.host.environments import Environment
from sdkpack.host.registry import Registry

SAME_PX = 1e-3
"""Of boxes up to 256 pixels: float32 sums in another order, four significant digits of a pixel."""
RECIPE = """
recipe = 1
bundle = {{ name = "detector", version = "1.0.0" }}
models.net.source = "{source}"
models.net.inputs.image = {{ dtype = "float32", shape = [1, 3, 96, 128], range = [-2.0, 2.0] }}
{convert}
targets.cpu.runtime = "onnxruntime"

[pipelines.find]
inputs.photograph = "image/encoded"
outputs = {{ boxes = "boxes", scores = "scores", classes = "classes" }}
steps = [
  {{ op = "image.decode" }},
  {{ op = "image.resize", with = {{ width_px = 128, height_px = 96, convention = "cv2.area" }}, as = ["small", "geometry"] }},
  {{ op = "image.to_tensor", in = "small", with = {{ scale = 1.0, mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }} }},
  {{ model = "net", as = ["chances", "outlines"] }},
  {{ op = "boxes.nms", in = ["chances", "outlines", "geometry"], with = {{ score_threshold = {threshold}, iou_threshold = 0.5, max_boxes = 50, first_class = {first} }}, as = ["boxes", "scores", "classes"] }},
]
"""  # noqa: E501 - TOML's inline tables stand on one line
CODE = """
models.net.convert.files.code = "detectors.py"
models.net.convert.with.factory = "detectors:{name}"
models.net.convert.allow_code = true
"""
SETTINGS = {"dense": (0.6, 0), "two_stage": (0.3, 1)}
"""Threshold and first class, as `make.py` gave them to torch."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    names = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "sdkpack_vision.plugin", "sdkpack_torch.plugin"]
    found = Registry.of_modules(names)
    assert [plugin.reason for plugin in found.plugins] == ["", "", "", ""]
    return found


def found_in(folder: Path, registry: Registry, photograph: bytes) -> dict[str, Any]:
    with Store(folder / "store") as store:
        result = pack(folder, registry=registry, store=store, out=folder / "out.sdkpack")
        again = pack(folder, registry=registry, store=store, out=folder / "out.sdkpack", overwrite=True)
    assert (again.ran, again.identity) == (0, result.identity)
    checks = {found.check for found in result.manifest.models["net"].variants[0].evidence}
    assert "parity" in checks
    assert result.path is not None
    # The author's code and weights file stay at home.
    assert b"class Dense" not in result.path.read_bytes()
    with sdkpack.open(result.path, allow_unsigned=True) as session:
        return dict(session.run("find", photograph=photograph))


def agree(found: dict[str, Any], expected: Arrays) -> None:
    quads = np.stack(found["boxes"])
    corners = np.concatenate([quads[:, 0], quads[:, 2]], axis=1)
    assert len(expected["boxes"]) > 3
    assert list(found["classes"]) == expected["classes"].tolist()
    assert np.abs(np.array(found["scores"]) - expected["scores"]).max() <= 1e-5
    assert np.abs(corners - expected["boxes"]).max() <= SAME_PX


@pytest.mark.parametrize(("name", "kind"), [("dense", "pth"), ("dense", "pt2"), ("two_stage", "pth")])
def test_a_pipeline_finds_what_torch_finds(
    name: str, kind: str, toolchain: Environment, models: Path, nets: Path, tmp_path: Path, registry: Registry
) -> None:
    threshold, first = SETTINGS[name]
    source = f"{name}.{kind}"
    shutil.copyfile(models / source, tmp_path / source)
    shutil.copyfile(nets / "detectors.py", tmp_path / "detectors.py")
    convert = CODE.format(name=name) if kind == "pth" else ""
    text = RECIPE.format(source=source, convert=convert, threshold=threshold, first=first)
    (tmp_path / "recipe.toml").write_text(text)
    expected = load(models / f"{name}.npz")
    agree(found_in(tmp_path, registry, (models / "photograph.png").read_bytes()), expected)
