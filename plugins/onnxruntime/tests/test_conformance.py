"""ONNX Runtime through the conformance kit, as any vendor's runtime and compressor."""

from __future__ import annotations

from sdkpack.testing import CompressorConformance, RuntimeConformance


class TestOnnxRuntime(RuntimeConformance):
    runtime = "onnxruntime"
    samples_per_model = 0


class TestFloat16(CompressorConformance):
    compressor = "float16"
