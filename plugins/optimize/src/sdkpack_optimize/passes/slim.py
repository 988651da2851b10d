"""onnxslim, whose passes only work together."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, ClassVar, Final

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import ProtoPass
from sdkpack_optimize.files import ModelFile

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxslimPass"]

_SWITCH: Final = "ORT_DISABLE_TELEMETRY"


class OnnxslimPass(ProtoPass):
    """Shape arithmetic, Conv and MatMul with what follows them, transposes and reshapes, by onnxslim.

    It folds constants with onnxruntime and infers symbolic shapes, which it trusts more than they deserve: it runs
    after onnxscript's folding, which leaves it less to be wrong about. Shapes that it wrote into the model are dropped.

    Requires: shapes that are right. Ensures: onnxslim finds nothing more to do that makes the model smaller.
    """

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxslim")

    def edit(self, source: ModelFile, request: OptimizeRequest) -> tuple[ModelProto, tuple[str, ...]]:
        import onnx
        import onnxslim

        _load_onnxruntime()
        model = onnx.ModelProto()
        model.CopyFrom(source.proto)
        result = onnxslim.slim(model)
        known = {info.name: info for info in source.proto.graph.value_info}
        names = [info.name for info in result.graph.value_info]
        del result.graph.value_info[:]
        result.graph.value_info.extend(known[name] for name in names if name in known)
        for entry in source.proto.metadata_props:
            if all(kept.key != entry.key for kept in result.metadata_props):
                result.metadata_props.add(key=entry.key, value=entry.value)
        return result, ()


def _load_onnxruntime() -> None:
    """Imports what onnxslim folds with, without its telemetry: from 1.32 on it writes below HOME when it is imported,
    unless this variable says otherwise, and before any call could."""
    if "onnxruntime" not in sys.modules:
        before = os.environ.get(_SWITCH)
        os.environ[_SWITCH] = "1"
        try:
            importlib.import_module("onnxruntime")
        finally:
            if before is None:
                del os.environ[_SWITCH]
            else:
                os.environ[_SWITCH] = before
    sys.modules["onnxruntime"].disable_telemetry_events()
