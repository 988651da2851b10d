"""The core names no framework, no hardware and no plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent.parent / "sdkpack"

# ONNX itself, the interchange format, is not among them.
WORDS = (
    "torch", "pytorch", "tensorflow", "tflite", "litert", "keras", "caffe", "paddle", "mxnet", "darknet", "jax",
    "sklearn", "openvino", "tensorrt", "cuda", "cudnn", "rocm", "coreml", "ncnn", "mnn", "rknn", "hailo", "qnn", "snpe",
    "tvm", "onnxruntime", "ort", "opencv", "cv2", "nvidia", "intel", "qualcomm", "rockchip", "jetson",
)  # fmt: skip
# As a word of its own or of a snake_case name: `ort` is not in `export`, `cuda` is in `cuda_device`.
NAMED = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
# The conformance kit and the built-in plugins are plugins' side of the API.
FREE = ("testing", "builtin")
# It names what a file is that is no ONNX model, in a message; nothing is decided by it. Plugins that convert such files
# declare their magic bytes, and then take these words with them.
EXCEPTIONS = ("model/sniff.py",)


def _modules() -> list[Path]:
    found = (file for file in sorted(CORE.rglob("*.py")) if file.relative_to(CORE).parts[0] not in FREE)
    return [file for file in found if file.relative_to(CORE).as_posix() not in EXCEPTIONS]


def test_the_search_finds_what_it_should() -> None:
    assert len(_modules()) > 20
    assert NAMED.search("cuda_device")
    assert NAMED.search("an OpenVINO model")
    assert not NAMED.search("export, support, short")


@pytest.mark.parametrize("file", _modules(), ids=lambda file: str(file.relative_to(CORE)))
def test_the_core_names_no_framework(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    named = [
        f"{file.name}:{number}: {found[1]}" for number, line in enumerate(lines, 1) if (found := NAMED.search(line))
    ]
    assert not named, "name an imaginary one instead, such as acme.npu2"
