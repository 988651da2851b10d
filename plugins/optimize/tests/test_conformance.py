"""The kit for optimizers, on a pass of a library that runs native code, and on one of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import parser

from sdkpack.testing import OptimizerConformance

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'


class _Pass(OptimizerConformance):
    body = ""

    def models(self) -> Mapping[str, Any]:
        return {"own": parser.parse_model(HEAD + self.body), **super().models()}


class TestOnnxslim(_Pass):
    optimizer = "optimize.onnxslim"
    body = "g (float[N,4] x) => (float[N,4] y) { a = Transpose(x) b = Transpose(a) y = Relu(b) }"


class TestReshapes(_Pass):
    optimizer = "optimize.reshapes"
    body = (
        "g (float[N,4] x) => (float[N,4] y) <int64[3] wide = {-1, 2, 2}, int64[2] flat = {-1, 4}>"
        "{ a = Reshape(x, wide) b = Reshape(a, flat) y = Relu(b) }"
    )
