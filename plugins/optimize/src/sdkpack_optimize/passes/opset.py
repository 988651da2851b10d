"""Another version of ONNX's own operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import ProtoPass, params_of
from sdkpack_optimize.files import ModelFile
from sdkpack_optimize.params import OpsetParams

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OpsetPass", "opset_of"]


class OpsetPass(ProtoPass):
    """Brings a model into the window of versions that its targets take, or to the one that a recipe names, by ONNX's
    version converter. A model inside of the window stays as it is.

    Requires: no local functions, which the converter does not look into; all data in the model itself. Ensures: the
    model imports the version.
    """

    must_shrink = False

    def unfit(self, source: ModelFile, request: OptimizeRequest) -> str:
        if wanted_opset(source.proto, request) is None:
            return "the opset is right"
        if source.proto.functions:
            return "passed through: the converter does not look into functions"
        if source.external:
            return "passed through: the converter needs all data in the model itself"
        return super().unfit(source, request)

    def edit(self, source: ModelFile, request: OptimizeRequest) -> tuple[ModelProto, tuple[str, ...]]:
        from onnx import version_converter

        wanted = wanted_opset(source.proto, request)
        assert wanted is not None
        result = version_converter.convert_version(source.proto, wanted)
        kept = {entry.key for entry in result.metadata_props}
        result.metadata_props.extend(entry for entry in source.proto.metadata_props if entry.key not in kept)
        return result, (f"opset {opset_of(source.proto)} became {wanted}",)

    def is_worth(self, before: ModelProto, after: ModelProto) -> bool:
        return opset_of(before) != opset_of(after)


def opset_of(proto: ModelProto) -> int | None:
    """The version of ONNX's own operators that a model imports."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None)


def wanted_opset(proto: ModelProto, request: OptimizeRequest) -> int | None:
    """The version to convert to; None where the model's is right."""
    now = opset_of(proto)
    params: OpsetParams = params_of(request, OpsetParams)
    if now is None:
        return None
    oldest, newest = request.opsets or (now, now)
    wanted = params.target if params.target is not None else min(max(now, oldest), newest)
    return wanted if wanted != now else None
