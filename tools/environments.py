"""Builds what some tests need beside the checkout's own environment; does nothing where it is there.

* build/ocr-models: the packages whose model files and page image the OCR example uses;
* build/envs/ocr-peer: another program for the same job, in an environment of its own, to compare answers with;
* the environments of converters that run apart, where users have theirs.

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
MODEL_SOURCES = ("rapidocr-onnxruntime==1.4.4", "scikit-image==0.26.0")


def main() -> int:
    _build(MODELS, _install_models)
    _build(PEER, _install_peer)
    _build_toolchains("jax", "xgboost")
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


def _build_toolchains(*plugins: str) -> None:
    """Builds nothing that is there; the tests that need an environment skip where it is not."""
    command = [str(Path(sys.executable).parent / "sdkpack"), "plugins", "env", "build", *plugins]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        print(f"test: the environments of {', '.join(plugins)} could not be built; the tests that need them skip")


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
