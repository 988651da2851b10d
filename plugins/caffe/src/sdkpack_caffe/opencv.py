"""OpenCV's own reader of Caffe files, as a second opinion: it shares no code with this converter.

It is not Caffe. Where it is known to compute something else (OpenCV 4.14, measured against the layers' definitions), or
reads no such layer, it is not asked: a witness that is wrong would refuse conversions that are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import StepError
from sdkpack_caffe.prototxt import Layer, Network

__all__ = ["OpenCvNet", "lacking", "version", "why_not"]

_SAME: Final = frozenset(
    {
        "AbsVal", "BNLL", "BatchNorm", "Concat", "Convolution", "ConvolutionDepthwise", "Crop", "DepthwiseConvolution",
        "Dropout", "ELU", "Eltwise", "Exp", "Flatten", "Input", "Permute", "Pooling", "PReLU", "Power", "ReLU",
        "Reshape", "Scale", "Sigmoid", "Silence", "Slice", "Softmax", "Split", "TanH",
    }
)  # fmt: skip
"""Types of layers that it computes as Caffe does, whatever their settings."""

_Condition = Callable[[Layer], bool]
_SAME_IF: Final[Mapping[str, tuple[_Condition, str]]] = {
    "InnerProduct": (lambda layer: not layer.fields.inner_product_param.transpose, "it ignores transpose"),
    "LRN": (lambda layer: layer.fields.lrn_param.k == 1, "it ignores k"),
    "Deconvolution": (
        lambda layer: all(size == 1 for size in layer.fields.convolution_param.dilation), "it ignores dilation",
    ),
}  # fmt: skip
"""Types that it computes as Caffe does under a condition."""


def version() -> str:
    """Of the installed OpenCV with a reader of Caffe files; empty where there is none."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    for name in ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"):
        try:
            found = installed(name)
        except PackageNotFoundError:
            continue
        # OpenCV 5 dropped the reader.
        return found if int(found.partition(".")[0]) < 5 else ""
    return ""


def why_not(network: Network) -> str:
    """Why OpenCV is not asked about a network; empty where it is."""
    if not version():
        return "no OpenCV below 5 is installed to run it: pip install 'opencv-python-headless<5'"
    for layer in network.layers:
        if layer.type in _SAME:
            continue
        condition, reason = _SAME_IF.get(layer.type, (None, "it computes such layers otherwise, or does not read them"))
        if condition is None or not condition(layer):
            return f"OpenCV cannot say whether {layer} is right: {reason}"
    return ""


class OpenCvNet:
    """A network in OpenCV. A new one for each shape of its inputs: an old one keeps sizes of the shape before."""

    def __init__(self, network: Network, prototxt: Path, caffemodel: Path) -> None:
        self._network = network
        self._files = str(prototxt), str(caffemodel)

    def run(self, inputs: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
        """The blobs `wanted` that can be told: each after the last layer that writes it.

        Raises:
            StepError: OpenCV does not take the files.
        """
        import cv2

        makers = self._makers(wanted)
        try:
            net = cv2.dnn.readNetFromCaffe(*self._files)
            # Else a blob in the middle may be one that the next layer was already worked into.
            net.enableFusion(False)
            for name, array in inputs.items():
                net.setInput(array, name)
            return {blob: _array(net.forward(layer)) for blob, layer in makers.items()}
        except cv2.error as error:
            raise StepError(f"OpenCV does not run this network: {' '.join(str(error.err).split())[:300]}") from error

    def _makers(self, wanted: Iterable[str]) -> dict[str, str]:
        """Blob -> the layer to ask for. Layers with several tops are asked by none of their names, and left out."""
        last = {top: layer for layer in self._network.layers for top in layer.tops}
        return {blob: last[blob].name for blob in wanted if blob in last and len(last[blob].tops) == 1}


def _array(found: Any) -> Any:
    import numpy as np

    return np.array(found, dtype=np.float32)


def lacking(found: Mapping[str, Any], outputs: Sequence[str]) -> str:
    """Why what OpenCV gave does not do; empty where all outputs are there."""
    missing = [name for name in outputs if name not in found]
    return f"OpenCV cannot show the output {missing[0]!r}" if missing else ""
