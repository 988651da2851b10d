"""Small ONNX models for the tests of the writer, and the roads back from Caffe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams, CaffeWriterParams
from sdkpack_caffe.writer.build import check_sizes, write_network
from sdkpack_caffe.writer.files import Written

from plugins.caffe.tests.nets import run_onnx

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPENCV = {"without": ("Bias", "Clip", "Reduction", "Tile"), "floor_pooling": "ceil_mode"}
"""What OpenCV 4.14 does not read, and how it reads a pooling that rounds downwards."""


def model(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None, *, opset: int = 17, types: Mapping[str, int] | None = None,
) -> bytes:  # fmt: skip
    """An ONNX model; constants are initializers."""
    kinds = dict(types or {})
    graph = helper.make_graph(
        list(nodes), "net",
        [helper.make_tensor_value_info(name, kinds.get(name, FLOAT), list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, FLOAT), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def reference(content: bytes, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX's own reference makes of it."""
    from onnx.reference import ReferenceEvaluator

    loaded = onnx.load_model_from_string(content)
    names = [value.name for value in loaded.graph.output]
    return dict(zip(names, ReferenceEvaluator(loaded).run(None, dict(inputs)), strict=True))


def written(folder: Path, content: bytes, **params: Any) -> Written:
    """Writes the model as Caffe's two files into the folder, and checks their sizes by Caffe's rules."""
    (folder / "net.onnx").write_bytes(content)
    found = write_network(folder / "net.onnx", CaffeWriterParams(**params))
    (folder / "net.prototxt").write_text(found.prototxt)
    (folder / "net.caffemodel").write_bytes(found.caffemodel)
    check_sizes(folder / "net.prototxt", folder / "net.caffemodel", found.shapes)
    return found


def back(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The written files through this plugin's reader and ONNX Runtime."""
    content, _ = convert_network(folder / "net.prototxt", folder / "net.caffemodel", CaffeParams())
    return run_onnx(content, {name: np.asarray(value, np.float32) for name, value in inputs.items()})


def opencv(folder: Path, inputs: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The written files in OpenCV's importer."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for name, array in inputs.items():
        net.setInput(np.asarray(array, np.float32), name)
    return list(net.forward(list(names)))


def layer_types(found: Written) -> list[str]:
    """Types of the layers, inputs left out."""
    lines = (line.strip() for line in found.prototxt.splitlines())
    return [line.split('"')[1] for line in lines if line.startswith("type: ") and '"Input"' not in line]
