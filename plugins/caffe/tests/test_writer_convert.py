"""The writer as `sdkpack convert --to caffe` meets it: chosen, asked, read back and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from plugins.caffe.tests.nets import inputs_text, write
from plugins.caffe.tests.onnx_nets import model
from sdkpack.build.convert import Converted, Export, convert
from sdkpack.build.runner import StepRunner
from sdkpack.build.store import Store
from sdkpack.documents.recipe import ConvertSection, ModelSection
from sdkpack.errors import DocumentError, ModelError, ParityError
from sdkpack.host.registry import Registry

N = helper.make_node
RNG = np.random.default_rng(1)
W = RNG.standard_normal((3, 2, 3, 3)).astype("f4")
NODES = [N("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]), N("MaxPool", ["h"], ["y"], kernel_shape=[2, 2]),
         N("Softmax", ["h"], ["a"], axis=1)]  # fmt: skip
# Outputs with shapes, as every model that sdkpack imports has them.
OPEN = onnx.shape_inference.infer_shapes(
    onnx.load_from_string(model(NODES, {"x": ["N", 2, 6, 6]}, ["y", "a"], {"w": W}))
).SerializeToString()


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_caffe.plugin"])
    assert [plugin.reason for plugin in found.plugins] == ["", ""]
    return found


def run(
    folder: Path, registry: Registry, source: Path, section: dict[str, Any] | None = None, **params: Any
) -> Converted:
    export = Export(to="caffe", section=ConvertSection.from_object({"with": params}))
    (folder / "out").mkdir(exist_ok=True)
    with Store(folder / "store") as store, StepRunner.threads(2) as executor:
        runner = StepRunner(store=store, executor=executor, environment={"PATH": "/usr/bin:/bin"})
        return convert(source, registry=registry, runner=runner, out=folder / "out", export=export, overwrite=True,
                       section=ModelSection.from_object({"source": source.name, **(section or {})}))  # fmt: skip


def test_onnx_becomes_caffe_and_is_compared(tmp_path: Path, registry: Registry) -> None:
    """Two outputs, in their order; what was read back is run against the model."""
    (tmp_path / "net.onnx").write_bytes(OPEN)
    made = run(tmp_path, registry, tmp_path / "net.onnx", shapes={"x": [1, 2, 6, 6]})
    assert [path.name for path in made.files] == ["net.caffemodel", "net.prototxt"]
    finding = made.evidence[-1]
    assert finding["passed"]
    assert [tensor["name"] for tensor in finding["tensors"]] == ["y", "a"]
    assert finding["note"].startswith("read back by caffe")
    again = run(tmp_path, registry, tmp_path / "net.onnx", shapes={"x": [1, 2, 6, 6]})
    assert (again.ran, again.cached) == (0, made.ran)


def test_caffe_becomes_onnx_becomes_caffe(tmp_path: Path, registry: Registry) -> None:
    text = inputs_text([(1, 2, 6, 6)]) + (
        'layer { name: "c" type: "Convolution" bottom: "in0" top: "c" '
        "convolution_param { num_output: 3 kernel_size: 3 } }\n"
        'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }\n'
    )
    write(tmp_path, text, {"c": [W, RNG.standard_normal(3).astype("f4")]})
    prototxt = str(tmp_path / "net.prototxt")
    with Store(tmp_path / "store") as store, StepRunner.threads(2) as executor:
        runner = StepRunner(store=store, executor=executor, environment={"PATH": "/usr/bin:/bin"})
        section = ModelSection.from_object({"source": "net.caffemodel", "convert": {"files": {"prototxt": prototxt}}})
        (tmp_path / "out").mkdir()
        made = convert(
            tmp_path / "net.caffemodel", registry=registry, runner=runner, out=tmp_path / "out", section=section,
            given={prototxt: tmp_path / "net.prototxt"},
            export=Export(to="application/vnd.caffe.model", section=ConvertSection()),
        )  # fmt: skip
    assert made.converters == ("caffe", "caffe.writer")
    assert made.evidence[-1]["passed"]


def test_what_cannot_be_written_is_told(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "net.onnx").write_bytes(OPEN)
    with pytest.raises(ModelError, match="'x' cannot be one of Caffe's") as caught:
        run(tmp_path, registry, tmp_path / "net.onnx")
    assert caught.value.hint == "set them: convert.with.shapes = { x = [1, 2, 6, 6] }"
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("params", [{"shapes": {"x": [0, 2]}}, {"floor_pooling": "maybe"}, {"withuot": ["Clip"]}])
def test_wrong_settings_are_told(params: dict[str, Any], tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "net.onnx").write_bytes(OPEN)
    with pytest.raises(DocumentError, match=next(iter(params))):
        run(tmp_path, registry, tmp_path / "net.onnx", **params)


def test_a_writer_that_errs_is_found_out(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is no formality: a wrong weight in the file ends the conversion."""
    from sdkpack_caffe.writer import build

    def wrong(*arguments: Any, **more: Any) -> Any:
        for layer in arguments[0].layers:
            layer.weights[:] = [array + 0.01 for array in layer.weights]
        return render(*arguments, **more)

    render = build.render
    monkeypatch.setattr(build, "render", wrong)
    (tmp_path / "net.onnx").write_bytes(OPEN)
    with pytest.raises(ParityError, match=r"'caffe\.writer' wrote is not what the model computes"):
        run(tmp_path, registry, tmp_path / "net.onnx", shapes={"x": [1, 2, 6, 6]})
