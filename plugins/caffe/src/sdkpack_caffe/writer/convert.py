"""The writer: an ONNX file in, a caffemodel and a prototxt out."""

from __future__ import annotations

from importlib.metadata import version

from sdkpack.plugin import ConvertRequest, ConvertResult, Probe, StepContext
from sdkpack_caffe.convert import CaffeConverter
from sdkpack_caffe.params import CaffeWriterParams

__all__ = ["CaffeWriter"]


class CaffeWriter:
    """ONNX to Caffe, node by node, without Caffe."""

    def probe(self) -> Probe:
        # The same libraries as the reader's.
        return CaffeConverter().probe()

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Writes `NAME.caffemodel` and, among the files, the `prototxt`."""
        from sdkpack_caffe.writer.build import check_sizes, write_network

        params = request.params if isinstance(request.params, CaffeWriterParams) else CaffeWriterParams()
        context.progress(0.1, f"reading {request.source.name}")
        written = write_network(request.source, params, declared=request.inputs, name=request.name)
        prototxt, model = (context.work / f"model.{suffix}" for suffix in ("prototxt", "caffemodel"))
        prototxt.write_text(written.prototxt, encoding="utf-8")
        model.write_bytes(written.caffemodel)
        context.progress(0.8, "reading what was written")
        check_sizes(prototxt, model, written.shapes)
        tools = {name: version(name) for name in ("onnx", "protobuf")}
        return ConvertResult(model=model, files={"prototxt": prototxt}, notes=written.notes, tools=tools)
