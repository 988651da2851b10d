"""The core names no framework, no hardware and no plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "sdkpack"
JOB = ROOT / "sdkpack_job"

# ONNX itself, the interchange format, is not among them.
WORDS = (
    # frameworks and their formats
    "torch", "pytorch", "torchscript", "executorch", "tensorflow", "tf", "savedmodel", "tflite", "litert", "keras", "caffe",
    "caffe2", "paddle", "paddlepaddle", "mxnet", "gluon", "darknet", "jax", "flax", "mindspore", "oneflow", "megengine",
    "chainer", "theano", "cntk", "sklearn", "scikit", "xgboost", "lightgbm", "catboost", "safetensors", "gguf", "ggml",
    "llama", "huggingface", "transformers", "coremltools",
    # runtimes and compilers
    "onnxruntime", "ort", "openvino", "tensorrt", "trtexec", "coreml", "ncnn", "pnnx", "mnn", "tengine", "tvm", "triton",
    "iree", "mlir", "xla", "glow", "nnapi", "armnn", "directml", "winml", "webnn", "onednn", "mkldnn", "mkl", "oneapi",
    "xnnpack", "snpe", "qnn", "aimet", "nncf", "nni", "ppq", "tf2onnx", "onnx2tf", "skl2onnx", "jax2onnx", "onnxscript",
    "opencv", "cv2",
    # hardware and who makes it
    "cuda", "cudnn", "cublas", "rocm", "migraphx", "vulkan", "opencl", "nvidia", "jetson", "intel", "amd", "apple", "arm",
    "qualcomm", "hexagon", "adreno", "mali", "rockchip", "rknn", "hailo", "kneron", "ambarella", "mediatek", "ascend",
    "huawei", "cann", "cambricon", "sophgo", "coral", "edgetpu", "vitis", "xilinx", "samsung", "exynos",
)  # fmt: skip
# As a word of its own or of a snake_case name: `ort` is not in `export`, `cuda` is in `cuda_device`.
# Instruction sets by the names that platforms have are no hardware of somebody's.
NAMED = re.compile(rf"(?<![a-z])(?!amd64|arm64)({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
TEXTS = (".py", ".md", ".toml", ".json", ".html", ".txt", ".typed")
# The conformance kit is a plugin's side of the API.
FREE = ("testing",)


def _files() -> list[Path]:
    core = (file for file in sorted(CORE.rglob("*")) if file.relative_to(CORE).parts[0] not in FREE)
    return [file for file in (*core, *sorted(JOB.rglob("*"))) if file.suffix in TEXTS]


def test_the_search_finds_what_it_should() -> None:
    assert len(_files()) > 200
    assert {file.suffix for file in _files()} >= {".py", ".md"}
    assert NAMED.search("cuda_device")
    assert NAMED.search("an OpenVINO model")
    assert NAMED.search("tf.Tensor")
    assert NAMED.search("cuda12")
    assert not NAMED.search("export, support, short, charm, amd64, alarm, gtf")


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_core_names_no_framework(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    named = [
        f"{file.name}:{number}: {found[1]}" for number, line in enumerate(lines, 1) if (found := NAMED.search(line))
    ]
    assert not named, "name an imaginary one instead, such as acme.npu2"
