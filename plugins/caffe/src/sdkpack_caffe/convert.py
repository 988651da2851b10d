"""The converter: a prototxt and a caffemodel in, one ONNX file out."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
)
from sdkpack_caffe.params import OPSETS, CaffeParams

__all__ = ["CaffeConverter", "find_files"]

_HEAD_BYTES: Final = 1 << 16


class CaffeConverter:
    """Caffe to ONNX, layer by layer, without Caffe."""

    def probe(self) -> Probe:
        try:
            versions = ", ".join(f"{name} {version(name)}" for name in ("onnx", "protobuf", "numpy"))
        except PackageNotFoundError as error:
            return Probe(ok=False, missing=f"the package {error.name}", mend=f"pip install {error.name}")
        from sdkpack_caffe.opencv import version as opencv_version

        return Probe(ok=True, fingerprint=f"{versions}, opencv {opencv_version() or 'none'}")

    def sniff(self, request: SniffRequest) -> SniffResult:
        """A prototxt says 'layer' early; a caffemodel reads as a network with layers."""
        from sdkpack_caffe.caffemodel import read_caffemodel

        with request.source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if any(word in head for word in (b"layer {", b"layers {", b"layer{", b"layers{")):
            return SniffResult(score=0.7, reason="text with layers")
        # A network begins with its name, inputs or layers; others need not be read to the end.
        if not head.startswith((b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")):
            return SniffResult(score=0.0)
        try:
            found = read_caffemodel(request.source)
        except ModelError:
            return SniffResult(score=0.0)
        return SniffResult(score=0.9 if found else 0.0, reason=f"weights of {len(found)} layers")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Converts one network for the phase TEST.

        Files of the request: `prototxt` or `caffemodel`, whichever the source is not.
        """
        from sdkpack_caffe.network import convert_network

        prototxt, caffemodel = find_files(request)
        params = request.params if isinstance(request.params, CaffeParams) else CaffeParams()
        params = replace(params, opset=_opset(params.opset, request.opset))
        context.progress(0.1, f"reading {prototxt.name} and {caffemodel.name}")
        content, notes = convert_network(prototxt, caffemodel, params, declared=request.inputs)
        model = context.work / "model.onnx"
        model.write_bytes(content)
        tools = {name: version(name) for name in ("onnx", "protobuf")}
        return ConvertResult(model=model, notes=notes, tools=tools)

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the network by OpenCV's reader of Caffe files, where that is there and known to be right."""
        import numpy as np
        import onnx

        from sdkpack_caffe import opencv
        from sdkpack_caffe.prototxt import read_prototxt

        prototxt, caffemodel = find_files(request.conversion)
        params = request.conversion.params
        network = read_prototxt(prototxt, stages=params.stages if isinstance(params, CaffeParams) else ())
        reason = opencv.why_not(network)
        if reason:
            return EvaluateResult(outputs=(), notes=(reason,))
        outputs = [value.name for value in onnx.load(request.model, load_external_data=False).graph.output]
        net = opencv.OpenCvNet(network, prototxt, caffemodel)
        paths = []
        for number, sample in enumerate(request.samples):
            context.progress(number / len(request.samples), "running the network in OpenCV")
            with np.load(sample, allow_pickle=False) as archive:
                inputs = {name: archive[name] for name in archive.files}
            found = net.run(inputs, dict.fromkeys((*outputs, *request.tensors)))
            if reason := opencv.lacking(found, outputs):
                return EvaluateResult(outputs=(), notes=(reason,))
            paths.append(context.work / f"outputs-{number}.npz")
            np.savez(paths[-1], **found)
        return EvaluateResult(outputs=tuple(paths), tools={"opencv": opencv.version()})


def _opset(wanted: int, newest: int | None) -> int:
    """The version of the operators to write: what the settings say, or what the targets take if that is older.

    Raises:
        ModelError: the targets take none that this converter writes.
    """
    if newest is None or newest >= wanted:
        return wanted
    if newest < OPSETS[0]:
        raise ModelError(
            f"the targets take operators of version {newest} at most, this converter writes {OPSETS[0]} or newer",
            hint="leave out the target that takes no newer ones",
        )
    return newest


def find_files(request: ConvertRequest) -> tuple[Path, Path]:
    """The prototxt and the caffemodel of a request.

    A file that merely stands beside the source is not taken: the result would depend on a file that the build does not
    know of, and would not change with it.

    Raises:
        ModelError: one of the two is missing.
    """
    own = "prototxt" if request.source.suffix.lower() in (".prototxt", ".pt", ".txt") else "caffemodel"
    other = "caffemodel" if own == "prototxt" else "prototxt"
    found = {own: request.source, **request.files}
    if other not in found:
        wanted = f'models.{request.name}.convert.files.{other} = "{request.source.stem}.{other}"'
        raise ModelError(
            f"a Caffe model is two files, and the {other} of {request.source.name!r} is missing",
            hint=f"name it in the recipe: {wanted}",
        )
    return found["prototxt"], found["caffemodel"]
