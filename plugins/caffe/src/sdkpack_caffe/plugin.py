"""The Caffe plugin's rows. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import ConverterInfo, Half, hookimpl
from sdkpack_caffe.params import CaffeParams, CaffeWriterParams

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="caffe",
            summary="Caffe networks: a prototxt and a caffemodel, also of the V1 format and of the SSD fork.",
            params=CaffeParams,
            capabilities=("sniff", "evaluate"),
            requires=("onnx>=1.18", "protobuf>=5"),
            half=Half(load="sdkpack_caffe.convert:CaffeConverter"),
            reads=("application/vnd.caffe.model",),
            suffixes=(".caffemodel", ".prototxt"),
        ),
        ConverterInfo(
            name="caffe.writer",
            summary="ONNX models become Caffe networks: a prototxt and a caffemodel.",
            params=CaffeWriterParams,
            requires=("onnx>=1.18", "protobuf>=5"),
            half=Half(load="sdkpack_caffe.writer.convert:CaffeWriter"),
            reads=("application/vnd.onnx",),
            writes=("application/vnd.caffe.model",),
            suffixes=(".onnx",),
        ),
    ]
