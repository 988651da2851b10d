"""Real models through the whole build: recipe in, bundle out, recorded runs replayed from the bundle alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.pack import PackResult, pack
from sdkpack.build.store import Store
from sdkpack.host.registry import Registry
from sdkpack.session.golden import replay
from sdkpack.session.opening import open_session

REPOSITORY = Path(__file__).parents[2]
MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS", REPOSITORY.parent / "shared" / "models"))


def model(name: str) -> Path:
    path = MODELS / name
    if not path.exists():
        pytest.skip(f"the model {name} is not in {MODELS}; name another folder in SDKPACK_TEST_MODELS")
    return path


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.scan()


def packed(folder: Path, text: str, registry: Registry, **options: Any) -> PackResult:
    (folder / "recipe.toml").write_text(text)
    with Store(folder / "store") as store:
        return pack(folder, registry=registry, store=store, out=folder / "out.sdkpack", overwrite=True, **options)


def replayed(path: Path) -> list[tuple[str, str, bool]]:
    with open_session(path, trust=None, allow_unsigned=True) as session:
        return [(found.kind, found.name, found.passed) for found in replay(session)]


def test_an_old_detector_and_a_recurrent_voice_model(tmp_path: Path, registry: Registry) -> None:
    """Opset 9 with batch normalisation; opset 16 with control flow and a state of several open axes."""
    shutil.copyfile(model("face-ultralight/onnx/version-slim-320.onnx"), tmp_path / "face.onnx")
    shutil.copyfile(model("silero-vad/silero_vad.onnx"), tmp_path / "vad.onnx")
    text = (
        'recipe = 1\nbundle = { name = "real", version = "1.0.0" }\n'
        'models.face.source = "face.onnx"\nmodels.vad.source = "vad.onnx"\ntargets.cpu.runtime = "onnxruntime"\n'
    )
    result = packed(tmp_path, text, registry)
    for name, entry in result.manifest.models.items():
        checks = {found.check: found for found in entry.variants[0].evidence}
        assert set(checks) == {"determinism", "parity"}, name
        assert all(tensor.normalized_error < 1e-5 for tensor in checks["parity"].tensors), name
    assert result.path is not None
    assert replayed(result.path) == [("model", "face", True), ("model", "vad", True)]


def test_the_faces_example_with_a_recorded_photograph(tmp_path: Path, registry: Registry) -> None:
    source = model("face-ultralight/onnx/version-RFB-320.onnx")
    images = sorted((MODELS / "face-ultralight" / "images").glob("*.jpg"))
    if not images:
        pytest.skip("there is no photograph beside the model")
    shutil.copyfile(source, tmp_path / source.name)
    shutil.copyfile(images[0], tmp_path / "photo.jpg")
    text = (REPOSITORY / "examples" / "faces" / "recipe.toml").read_text()
    first = packed(tmp_path, text + '\nsamples = ["photo.jpg"]\n', registry)
    assert first.path is not None
    assert first.manifest.goldens["find"][0].inputs["image"].endswith("inputs/image")
    assert replayed(first.path) == [("model", "faces", True), ("pipeline", "find", True)]
    again = packed(tmp_path, text + '\nsamples = ["photo.jpg"]\n', registry)
    assert (again.ran, again.identity) == (0, first.identity)


def test_the_ocr_example_s_models(tmp_path: Path, registry: Registry) -> None:
    from sdkpack.build.sources import Sources
    from sdkpack.errors import FileError

    recipe = (REPOSITORY / "examples" / "ocr" / "recipe.toml").read_text()
    named = os.environ.get("SDKPACK_TEST_PACKAGES", str(REPOSITORY / "build" / "ocr-models"))
    paths = tuple(Path(path) for path in named.split(os.pathsep) if path and Path(path).is_dir())
    try:
        Sources(tmp_path, paths).find("package://rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx")
    except FileError as error:
        pytest.skip(f"{error.message}; name a folder with it in SDKPACK_TEST_PACKAGES")
    for path in (REPOSITORY / "examples" / "ocr").iterdir():
        if path.is_file():
            shutil.copyfile(path, tmp_path / path.name)
    plain = recipe.replace("[encrypt]", "[x-encrypt]").replace("[sign]", "[x-sign]")
    result = packed(tmp_path, plain, registry, package_paths=paths)
    evidence = {name: entry.variants[0].evidence for name, entry in result.manifest.models.items()}
    assert {name: [found.check for found in found_here] for name, found_here in evidence.items()} == {
        name: ["determinism", "parity"] for name in ("det", "cls", "rec")
    }
    assert result.path is not None
    assert all(passed for _, _, passed in replayed(result.path))
