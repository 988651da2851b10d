"""The passes' rows, in the order in which they run. Imports no toolchain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

from sdkpack.plugin import Half, OptimizerInfo, hookimpl
from sdkpack_optimize.params import FoldParams, InformationParams, OpsetParams

SDKPACK_API: Final = (1, 0)


@hookimpl
def sdkpack_optimizers() -> list[OptimizerInfo]:
    rows = [
        _row(
            "initializers-not-inputs",
            "dependency",
            "Inputs that an initializer gives a default become constants.",
            "initializers_not_inputs:InitializersNotInputsPass",
            level="safe",
            large=True,
            repeats=False,
        ),
        _row(
            "opset",
            "information",
            "Brings the model into the window of opsets that the targets take (onnx).",
            "opset:OpsetPass",
            level="safe",
            params=OpsetParams,
            repeats=False,
        ),
        _row(
            "inline-functions",
            "function",
            "Calls of local functions become their bodies (onnx-ir).",
            "inline_functions:InlineFunctionsPass",
            level="safe",
            large=True,
            repeats=False,
        ),
        _row(
            "fold-constants",
            "constant-folding",
            "Constants, shapes and branches on constants are computed once (onnxscript).",
            "fold_constants:FoldConstantsPass",
            level="safe",
            large=True,
            params=FoldParams,
        ),
        _row(
            "rewrite",
            "arithmetic",
            "Identities, chains of reshapes, casts and transposes; convolutions with norms and pads (onnxscript).",
            "rewrite:RewritePass",
            large=True,
        ),
        _row(
            "onnxslim",
            "fusion",
            "Shape arithmetic, Conv and Gemm with what follows them, layout transposes (onnxslim).",
            "slim:OnnxslimPass",
        ),
        _row(
            "reshapes",
            "arithmetic",
            "Chains of Reshape, Squeeze, Unsqueeze, Flatten and idle Transposes become one or none.",
            "reshapes:ReshapesPass",
            large=True,
        ),
        _row(
            "concats",
            "arithmetic",
            "Concatenations of concatenations become one.",
            "concats:ConcatsPass",
            large=True,
        ),
        _row(
            "quantize-pairs",
            "arithmetic",
            "Values quantised again as they were before are taken as they were.",
            "quantize_pairs:QuantizePairsPass",
            large=True,
        ),
        _row(
            "fuse-gelu",
            "fusion",
            "GELU by the error function becomes Gelu, from opset 20.",
            "fuse_gelu:FuseGeluPass",
            level="max",
            large=True,
        ),
        _row(
            "fuse-layer-norm",
            "fusion",
            "Layer normalisation in parts becomes LayerNormalization, from opset 17.",
            "fuse_layer_norm:FuseLayerNormPass",
            level="max",
            large=True,
        ),
        _row(
            "fuse-attention",
            "fusion",
            "Scaled dot-product attention in parts becomes Attention, from opset 23.",
            "fuse_attention:FuseAttentionPass",
            level="max",
            large=True,
        ),
        _row(
            "common-subexpressions",
            "arithmetic",
            "What is computed twice is computed once (onnx-ir).",
            "common_subexpressions:CommonSubexpressionsPass",
            level="safe",
            large=True,
        ),
        _row(
            "duplicate-initializers",
            "dependency",
            "Constants that are the same are one.",
            "duplicate_initializers:DuplicateInitializersPass",
            level="safe",
            large=True,
        ),
        _row(
            "unused",
            "dependency",
            "Nodes, initializers, functions and imports that lead to no output go (onnx-ir).",
            "unused:UnusedPass",
            level="safe",
            large=True,
        ),
        _row(
            "information",
            "information",
            "Texts, exporters' notes, types of values that are gone; every node gets a name; licences stay.",
            "information:InformationPass",
            level="safe",
            large=True,
            params=InformationParams,
        ),
    ]
    # Each after all before it: whichever a level or a recipe leaves out, the order of the others stays.
    return [replace(row, after=tuple(earlier.name for earlier in rows[:place])) for place, row in enumerate(rows)]


def _row(
    name: str,
    category: str,
    summary: str,
    load: str,
    *,
    level: Literal["safe", "standard", "max", "named"] = "standard",
    large: bool = False,
    params: type[Any] | None = None,
    repeats: bool = True,
) -> OptimizerInfo:
    return OptimizerInfo(
        name=f"optimize.{name}",
        summary=summary,
        params=params,
        capabilities=("large",) if large else (),
        half=Half(load=f"sdkpack_optimize.passes.{load}"),
        category=category,
        level=level,
        repeats=repeats,
    )
