"""Small networks for the tests: written as files through the plugin's schema, run by ONNX Runtime and by OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sdkpack_caffe.network import convert_network
from sdkpack_caffe.params import CaffeParams
from sdkpack_caffe.schema import weights_class


def caffemodel(blobs: Mapping[str, Sequence[Any]], form: str = "shape") -> bytes:
    """A caffemodel; `form` is how its arrays are stored: shape, legacy, v1, double, half."""
    net = weights_class()()
    for name, arrays in blobs.items():
        layer = (net.layers if form == "v1" else net.layer).add(name=name)
        for array in arrays:
            blob = layer.blobs.add()
            if form in ("legacy", "v1"):
                sizes = (*[1] * (4 - array.ndim), *array.shape)
                blob.num, blob.channels, blob.height, blob.width = sizes
            else:
                blob.shape.dim.extend(array.shape)
            if form == "half":
                blob.raw_type, blob.raw = 2, array.astype("<f2").tobytes()
            elif form == "double":
                blob.double_data.extend(array.ravel().tolist())
            else:
                blob.data.extend(array.ravel().tolist())
    return bytes(net.SerializeToString())


def inputs_text(shapes: Sequence[Sequence[int]]) -> str:
    """Layers of the type Input called in0, in1, ..."""
    return "".join(
        f'layer {{ name: "in{at}" type: "Input" top: "in{at}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {size}' for size in shape)} }} }} }}\n"
        for at, shape in enumerate(shapes)
    )


def write(folder: Path, text: str, blobs: Mapping[str, Sequence[Any]], form: str = "shape") -> tuple[Path, Path]:
    prototxt, weights = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(text)
    # A network without weights still has a caffemodel with its layers.
    weights.write_bytes(caffemodel(blobs or {"none": []}, form))
    return prototxt, weights


def run(
    folder: Path, text: str, blobs: Mapping[str, Sequence[Any]], inputs: Mapping[str, Any], form: str = "shape",
    **params: Any,
) -> dict[str, Any]:  # fmt: skip
    """Converts the network and runs it: outputs by name."""
    content, _ = convert_network(*write(folder, text, blobs, form), CaffeParams(**params))
    return run_onnx(content, inputs)


def run_onnx(content: bytes, inputs: Mapping[str, Any]) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def run_opencv(folder: Path, inputs: Mapping[str, Any]) -> Any:
    """The last output of the network that was last written to `folder`, by OpenCV's reader."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for name, array in inputs.items():
        net.setInput(array, name)
    return net.forward()


def error(found: Any, expected: Any) -> float:
    """max |a - b| / max |b|; infinite for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
