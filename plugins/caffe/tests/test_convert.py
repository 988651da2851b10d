"""The converter as the packer meets it: found, asked, run from a recipe, run again from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdkpack_caffe.convert import CaffeConverter, find_files

import sdkpack
from plugins.caffe.tests.nets import inputs_text, write
from sdkpack.build.pack import PackResult, pack
from sdkpack.build.store import Store
from sdkpack.errors import DocumentError, ModelError
from sdkpack.host.registry import Registry
from sdkpack.plugin import ConvertRequest, SniffRequest

RECIPE = """
recipe = 1
bundle = {{ name = "caffe", version = "1.0.0" }}
models.net.source = "net.caffemodel"
{settings}
targets.cpu.runtime = "onnxruntime"
"""
FILES = 'models.net.convert.files.prototxt = "net.prototxt"'
NET = inputs_text([(1, 4)]) + (
    'layer { name: "fc" type: "InnerProduct" bottom: "in0" top: "fc" inner_product_param { num_output: 3 } }\n'
    'layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }\n'
)
RNG = np.random.default_rng(1)
BLOBS = {"fc": [RNG.standard_normal((3, 4)).astype("f4"), RNG.standard_normal(3).astype("f4")]}


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "sdkpack_caffe.plugin"])
    assert [plugin.reason for plugin in found.plugins] == ["", "", ""]
    return found


def packed(folder: Path, registry: Registry, settings: str = FILES) -> PackResult:
    (folder / "recipe.toml").write_text(RECIPE.format(settings=settings))
    with Store(folder / "store") as store:
        return pack(folder, registry=registry, store=store, out=folder / "out.sdkpack", overwrite=True)


def test_a_caffe_model_packs_and_runs(tmp_path: Path, registry: Registry) -> None:
    write(tmp_path, NET, BLOBS)
    result = packed(tmp_path, registry)
    source = result.manifest.models["net"].source
    assert (source.reference, source.format) == ("net.caffemodel", "application/vnd.caffe.model")
    x = RNG.standard_normal((1, 4)).astype("f4")
    assert result.path is not None
    with sdkpack.open(result.path, allow_unsigned=True) as session:
        found = session.run("net", {"in0": x})["fc"]
    assert np.allclose(found, np.maximum(x @ BLOBS["fc"][0].T + BLOBS["fc"][1], 0), atol=1e-6)


def test_a_changed_prototxt_is_converted_again(tmp_path: Path, registry: Registry) -> None:
    write(tmp_path, NET, BLOBS)
    first = packed(tmp_path, registry)
    again = packed(tmp_path, registry)
    assert (again.ran, again.cached) == (0, first.ran)
    assert again.identity == first.identity
    (tmp_path / "net.prototxt").write_text(NET.replace("ReLU", "TanH"))
    assert packed(tmp_path, registry).identity != first.identity


def test_the_other_file_has_to_be_named(tmp_path: Path, registry: Registry) -> None:
    write(tmp_path, NET, BLOBS)
    with pytest.raises(ModelError, match=r"the prototxt of 'net\.caffemodel' is missing") as caught:
        packed(tmp_path, registry, "")
    assert caught.value.hint == 'name it in the recipe: models.net.convert.files.prototxt = "net.prototxt"'


@pytest.mark.parametrize(
    "settings",
    ["opset = 12", "shapes = { in0 = [0, 4] }", 'shapes = { in0 = ["a b", 4] }', 'unknown_fields = "keep"'],
)
def test_wrong_settings_are_told(settings: str, tmp_path: Path, registry: Registry) -> None:
    write(tmp_path, NET, BLOBS)
    with pytest.raises(DocumentError, match=rf"models\.net\.convert\.with.*{settings.split()[0]}"):
        packed(tmp_path, registry, f"{FILES}\nmodels.net.convert.with.{settings}")


def test_the_prototxt_may_be_the_source(tmp_path: Path) -> None:
    prototxt, model = write(tmp_path, NET, BLOBS)
    for source, files in ((prototxt, {"caffemodel": model}), (model, {"prototxt": prototxt})):
        assert find_files(ConvertRequest(name="net", source=source, files=files)) == (prototxt, model)


@pytest.mark.parametrize(
    ("name", "content", "certain"),
    [
        ("a.bin", None, True), ("a.txt", NET.encode(), True), ("b.txt", b"a list of layers", False),
        ("c.bin", bytes(64), False), ("d.bin", b"", False), ("e.bin", b"\x08\x07" + bytes(9), False),
    ],
)  # fmt: skip
def test_it_knows_its_files(name: str, content: Any, certain: bool, tmp_path: Path) -> None:
    _, model = write(tmp_path, NET, BLOBS)
    (tmp_path / name).write_bytes(model.read_bytes() if content is None else content)
    score = CaffeConverter().sniff(SniffRequest(source=tmp_path / name)).score
    assert (score >= 0.7) if certain else (score == 0)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    from sdkpack_caffe.network import convert_network
    from sdkpack_caffe.params import CaffeParams

    files = write(tmp_path, NET, BLOBS)
    assert convert_network(*files, CaffeParams()) == convert_network(*files, CaffeParams())


def test_its_toolchain_is_told() -> None:
    probe = CaffeConverter().probe()
    assert probe.ok
    assert "protobuf" in probe.fingerprint


def test_opencv_is_asked_only_where_it_is_right() -> None:
    from sdkpack_caffe import opencv
    from sdkpack_caffe.prototxt import Layer, Network
    from sdkpack_caffe.schema import network_class

    def net(kind: str, **fields: object) -> Network:
        made = network_class()().layer.add()
        for name, value in fields.items():
            holder = getattr(made, name)
            for key, setting in value.items():  # type: ignore[attr-defined]
                setattr(holder, key, setting)
        layer = Layer(name="one", type=kind, bottoms=("x",), tops=("y",), fields=made)
        return Network(name="n", inputs=(("x", (1, 3, 4, 4)),), layers=(layer,))

    assert opencv.version(), "the tests' own environment has it"
    assert opencv.why_not(net("ReLU")) == ""
    assert opencv.why_not(net("LRN", lrn_param={"k": 1.0})) == ""
    assert "it ignores k" in opencv.why_not(net("LRN", lrn_param={"k": 2.0}))
    assert "it ignores transpose" in opencv.why_not(net("InnerProduct", inner_product_param={"transpose": True}))
    assert "layer 'one' (DetectionOutput)" in opencv.why_not(net("DetectionOutput"))
