"""The kit for optimizers, on passes of each library and of our own, each with a model that it changes."""

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


class TestInitializersNotInputs(_Pass):
    optimizer = "optimize.initializers-not-inputs"
    body = "g (float[N,4] x, float[1] w = {2}) => (float[N,4] y) { y = Mul(x, w) }"


class TestFoldConstants(_Pass):
    optimizer = "optimize.fold-constants"
    body = "g (float[N,4] x) => (float[N,4] y) <float[1] w = {2}> { v = Exp(w) y = Mul(x, v) }"


class TestOnnxslim(_Pass):
    optimizer = "optimize.onnxslim"
    body = "g (float[N,4] x) => (float[N,4] y) { a = Transpose(x) b = Transpose(a) y = Relu(b) }"


class TestReshapes(_Pass):
    optimizer = "optimize.reshapes"
    body = (
        "g (float[N,4] x) => (float[N,4] y) <int64[3] wide = {-1, 2, 2}, int64[2] flat = {-1, 4}>"
        "{ a = Reshape(x, wide) b = Reshape(a, flat) y = Relu(b) }"
    )


class TestInformation(_Pass):
    optimizer = "optimize.information"
    body = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
