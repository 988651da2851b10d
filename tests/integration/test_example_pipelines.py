"""The examples' pipelines beside the installed operators: they fit together, and the small one finds faces."""

from __future__ import annotations

import io
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sdkpack.documents.recipe import Recipe
from sdkpack.errors import InputError, PipelineError
from sdkpack.host.registry import Registry
from sdkpack.pipeline import CheckedPipeline, ModelSignature, check, normalize
from sdkpack.plugin import AssetMarker
from sdkpack.types import TensorSpec

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", ROOT.parent / "shared" / "models"))


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


OCR = {
    "det": ModelSignature(inputs=(spec("x", "N", 3, "H", "W"),), outputs=(spec("heat", "N", 1, "H", "W"),)),
    "cls": ModelSignature(inputs=(spec("x", "N", 3, "H", "W"),), outputs=(spec("softmax", "N", 2),)),
    "rec": ModelSignature(inputs=(spec("x", "N", 3, "H", "W"),), outputs=(spec("softmax", "N", "T", 5),)),
}
FACES = {
    "faces": ModelSignature(
        inputs=(spec("input", 1, 3, 240, 320),), outputs=(spec("scores", 1, 4420, 2), spec("boxes", 1, 4420, 4))
    )
}
ALPHABET = b"a\nb\nc\n"  # with the blank and a space: five classes


def checked(example: str, pipeline: str, models: Mapping[str, ModelSignature]) -> CheckedPipeline:
    recipe = Recipe.model_validate(tomllib.loads((ROOT / "examples" / example / "recipe.toml").read_text()))
    registry = Registry.scan()

    def pack(reference: str, marker: AssetMarker) -> str:
        assert reference == "model-metadata://rec/character"
        assert marker.content == "lines"
        return "assets/alphabet.txt"

    def read(path: str) -> bytes:
        assert path == "assets/alphabet.txt"
        return ALPHABET

    normal = normalize(pipeline, recipe.pipelines[pipeline], registry=registry, models=models, assets=pack, read=read)
    return check(pipeline, normal, registry=registry, models=models, assets=read)


def test_the_ocr_pipeline_fits_together() -> None:
    found = checked("ocr", "read", OCR)
    assert str(found.outputs["lines"]) == "list(record(box: quad, score: float, text: string))"


def test_the_ocr_pipeline_with_another_alphabet_is_refused_before_a_run() -> None:
    rec = ModelSignature(inputs=OCR["rec"].inputs, outputs=(spec("softmax", "N", "T", 7),))
    with pytest.raises(PipelineError) as caught:
        checked("ocr", "read", {**OCR, "rec": rec})
    assert "expected 5 classes" in str(caught.value)


def drawn_page() -> bytes:
    page = Image.new("RGB", (400, 200), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((40, 30, 200, 50), fill="black")
    pen.rectangle((40, 120, 320, 145), fill="black")
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


class Readers:
    """Stand-ins for the three models: dark pixels are text, each second line is upside down, all read `ab`."""

    def __init__(self) -> None:
        self.seen: dict[str, list[np.ndarray]] = {"cls": [], "rec": []}

    def det(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"heat": (inputs["x"][:, :1] < 0).astype(np.float32)}

    def cls(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.seen["cls"].append(inputs["x"])
        turned = len(self.seen["cls"]) % 2 == 0
        return {"softmax": np.array([[0.02, 0.98] if turned else [0.98, 0.02]], np.float32)}

    def rec(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.seen["rec"].append(inputs["x"])
        return {"softmax": np.eye(5, dtype=np.float32)[[1, 1, 0, 2]][None]}


def test_the_ocr_pipeline_runs_around_its_models() -> None:
    readers = Readers()
    models = {"det": readers.det, "cls": readers.cls, "rec": readers.rec}
    lines = checked("ocr", "read", OCR).run({"image": drawn_page()}, models=models)["lines"]
    assert [line["text"] for line in lines] == ["ab", "ab"]
    assert [line["score"] for line in lines] == [1.0, 1.0]
    first, second = (line["box"] for line in lines)
    # The dark bars, enlarged by about area * 1.6 / perimeter.
    assert first[:, 1].min() < 30 < 50 < first[:, 1].max() < 90
    assert second[:, 0].max() == pytest.approx(320 + 1.6 * 280 * 25 / 610, abs=4)
    assert all(array.shape == (1, 3, 48, 192) for array in readers.seen["cls"])
    assert len({array.shape for array in readers.seen["rec"]}) == 1
    assert readers.seen["rec"][0].shape[3] >= 320


def test_a_page_without_text_has_no_lines() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    readers = Readers()
    models = {"det": readers.det, "cls": readers.cls, "rec": readers.rec}
    assert checked("ocr", "read", OCR).run({"image": buffer.getvalue()}, models=models) == {"lines": []}


def test_run_time_parameters_keep_their_bounds() -> None:
    readers = Readers()
    models = {"det": readers.det, "cls": readers.cls, "rec": readers.rec}
    pipeline = checked("ocr", "read", OCR)
    all_dropped = pipeline.run({"image": drawn_page()}, params={"box_threshold": 0.9}, models=models)
    assert len(all_dropped["lines"]) == 2  # the stand-in is certain
    with pytest.raises(InputError):
        pipeline.run({"image": drawn_page()}, params={"box_threshold": 0.95}, models=models)


@pytest.mark.skipif(
    not (MODELS / "face-ultralight").is_dir(),
    reason=f"no test models in {MODELS}; set SDKPACK_TEST_MODELS to their folder",
)
@pytest.mark.parametrize(("photograph", "count"), [("13", 2), ("19", 5), ("5", 1)])
def test_the_faces_pipeline_finds_faces(photograph: str, count: int) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        MODELS / "face-ultralight" / "onnx" / "version-RFB-320.onnx", options, providers=["CPUExecutionProvider"]
    )

    def faces(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(("scores", "boxes"), session.run(["scores", "boxes"], dict(inputs)), strict=True))

    image = (MODELS / "face-ultralight" / "images" / f"{photograph}.jpg").read_bytes()
    found = checked("faces", "find", FACES).run({"image": image}, models={"faces": faces})["faces"]
    assert len(found) == count
    assert all(face["score"] > 0.7 and face["box"].shape == (4, 2) for face in found)
