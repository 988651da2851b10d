"""Caffe through the conformance kit, as any vendor's converter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import helper

from plugins.caffe.tests.nets import inputs_text, write
from plugins.caffe.tests.onnx_nets import model
from sdkpack.testing import ConverterConformance, SourceCase

NET = inputs_text([(1, 4)]) + (
    'layer { name: "fc" type: "InnerProduct" bottom: "in0" top: "fc" inner_product_param { num_output: 3 } }\n'
    'layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }\n'
)
WEIGHTS = np.array([[1, -1, 2, 0.5], [0.25, 3, -2, 1], [-1, 0, 1, 2]], np.float32)
BIAS = np.array([0.5, -0.5, 0.0], np.float32)


class TestCaffe(ConverterConformance):
    converter = "caffe"

    def sources(self, folder: Path) -> Sequence[SourceCase]:
        prototxt, caffemodel = write(folder, NET, {"fc": [WEIGHTS, BIAS]})
        x = np.array([[1, 2, 3, 4]], np.float32)
        expected = {"fc": np.maximum(x @ WEIGHTS.T + BIAS, 0)}
        return [
            SourceCase(source=caffemodel, files={"prototxt": prototxt}, samples=({"in0": x},), expected=(expected,))
        ]


class TestCaffeWriter(ConverterConformance):
    converter = "caffe.writer"

    def sources(self, folder: Path) -> Sequence[SourceCase]:
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        path = folder / "net.onnx"
        path.write_bytes(model([node], {"x": (1, 4)}, ["y"], {"w": WEIGHTS, "b": BIAS}))
        return [SourceCase(source=path)]
