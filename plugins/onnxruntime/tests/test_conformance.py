"""ONNX Runtime through the conformance kit, as any vendor's runtime."""

from __future__ import annotations

from sdkpack.testing import RuntimeConformance


class TestOnnxRuntime(RuntimeConformance):
    runtime = "onnxruntime"
    samples_per_model = 0
