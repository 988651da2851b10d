"""onnxslim, whose passes only work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import ProtoPass
from sdkpack_optimize.files import ModelFile

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxslimPass"]


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
