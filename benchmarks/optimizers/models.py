"""The models that optimisers are held against: published ones, and networks that `networks.py` writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.optimizers.environments import ROOT, ocr_models, python_of

SHARED: Final = Path(os.environ.get("SDKPACK_TEST_MODELS", ROOT.parent / "shared/models"))
FOLDER: Final = ROOT / "build/optimize/models"

_PUBLISHED: Final = {
    "face RFB-320": "face-ultralight/onnx/version-RFB-320.onnx",
    "face slim": "face-ultralight/onnx/version-slim-320.onnx",
    "silero": "silero-vad/silero_vad.onnx",
    "silero 16k op15": "silero-vad/silero_vad_16k_op15.onnx",
    "silero op18": "silero-vad/silero_vad_op18_ifless.onnx",
    "silero half": "silero-vad/silero_vad_half.onnx",
    "basic-pitch": "basic-pitch/nmp.onnx",
}
_CAFFE: Final = {"face RFB-320 caffe": "RFB-320", "face slim caffe": "slim-320"}
_NETWORKS: Final = tuple(
    f"{network}-{exporter}" for network in ("minilm", "vit", "mobilenet") for exporter in ("legacy", "dynamo")
)


def models() -> dict[str, Path]:
    """Name and file of each; what can be had only by a download is built under build/ at first."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = {f"rapidocr {kind}": next(ocr_models().glob(f"*_{kind}_*.onnx")) for kind in ("cls", "det", "rec")}
    found |= {name: SHARED / path for name, path in _PUBLISHED.items()}
    found |= {name: _converted(stem) for name, stem in _CAFFE.items()}
    if not all((FOLDER / f"{name}.onnx").exists() for name in _NETWORKS):
        script = Path(__file__).with_name("networks.py")
        environ = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([str(python_of("torch")), str(script), str(FOLDER)], check=True, env=environ)
    return found | {name: FOLDER / f"{name}.onnx" for name in _NETWORKS}


def _converted(stem: str) -> Path:
    path = FOLDER / f"caffe-{stem}.onnx"
    if not path.exists():
        from sdkpack_caffe.network import convert_network
        from sdkpack_caffe.params import CaffeParams

        source = SHARED / f"face-ultralight/caffe/{stem}.caffemodel"
        content, _ = convert_network(source.with_suffix(".prototxt"), source, CaffeParams())
        path.write_bytes(content)
    return path
