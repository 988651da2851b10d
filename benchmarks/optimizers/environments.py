"""Environments of their own for the peers, for torch and for a second runtime; does nothing where they are there."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENTS: Final = ROOT / "build/envs"
MODELS: Final = ROOT / "build/ocr-models"

_ONNX: Final = ("onnx==1.23.2", "numpy==2.4.6", "ml_dtypes==0.6.0")
NEEDS: Final = {
    # It folds constants with onnxruntime, and less without it.
    "onnxslim": ("onnxslim==0.1.98", "onnxruntime==1.32.0", *_ONNX),
    "onnxsim": ("onnxsim==0.8.1", "onnxruntime==1.32.0", *_ONNX),
    "onnxoptimizer": ("onnxoptimizer==0.4.2", *_ONNX),
    "onnxscript": ("onnxscript==0.7.2", "onnx-ir==1.1.0", *_ONNX),
    "onnxruntime": ("onnxruntime==1.32.0", *_ONNX),
    "openvino": ("openvino==2026.4.1", "numpy"),
    # Pinned: other versions bring several gigabytes for graphics cards.
    "torch": ("torch==2.13.0", "onnxscript==0.7.2", "onnx==1.23.2", "numpy"),
}
_OCR: Final = ("rapidocr-onnxruntime==1.4.4", "scikit-image==0.26.0")


def python_of(name: str) -> Path:
    """The interpreter of an environment, built at its first use.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    folder = ENVIRONMENTS / f"optimize-{name}"
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        print(f"bench: building {folder.relative_to(ROOT)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        _pip(python, *NEEDS[name])
        (folder / ".complete").touch()
    return python


def ocr_models() -> Path:
    """The folder of rapidocr's models, as the tests use it too."""
    if not (MODELS / ".complete").exists():
        print(f"bench: building {MODELS.relative_to(ROOT)}", flush=True)
        _pip(Path(sys.executable), "--no-deps", "--ignore-requires-python", "--target", str(MODELS), *_OCR)
        (MODELS / ".complete").touch()
    return MODELS / "rapidocr_onnxruntime/models"


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    ocr_models()
    for wanted in sys.argv[1:] or NEEDS:
        python_of(wanted)
