"""What helps where an operator has no layer."""

from __future__ import annotations

from typing import Final

__all__ = ["hint_for"]

_CUT: Final = "cut the model before it, models.NAME.cut = { outputs = [...] }, and compute the rest in the pipeline"
_FLOAT: Final = "convert the model as it was before quantization; Caffe's toolchains quantize by themselves"

_HINTS: Final = {
    "NonMaxSuppression": _CUT,
    "NonZero": _CUT,
    "RoiAlign": _CUT,
    "GridSample": _CUT,
    "Einsum": "write it as MatMul with fixed weights, Transpose and Reshape before the export",
    "Erf": "export the model with the tanh form of Gelu",
    "GRU": "Caffe knows LSTM alone: train with it, or cut the model before it, models.NAME.cut",
    "RNN": "Caffe knows LSTM alone: train with it, or cut the model before it, models.NAME.cut",
    "If": "fix its condition before the export, so that one branch remains",
    "Loop": "unroll it before the export: export with a fixed number of steps",
    "Scan": "unroll it before the export: export with a fixed number of steps",
    "Dropout": "export the model for inference: model.eval()",
    "Attention": "Caffe has no product of two computed matrices: cut the model before it, models.NAME.cut",
}
_QUANTIZED: Final = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
                     "ConvInteger", "MatMulInteger")  # fmt: skip
_RANDOM: Final = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def hint_for(op: str, domain: str) -> str:
    """The change or pass that would help, for an operator that cannot be written."""
    if op in _QUANTIZED or op.startswith("QLinear"):
        return _FLOAT
    if op in _RANDOM:
        return "export the model for inference: random numbers belong to training"
    if "Grad" in op or domain.endswith(".training") or op == "Adam":
        return "export the model for inference: this belongs to training"
    if domain:
        return "export the model with ONNX's own operators alone"
    return _HINTS.get(op, _CUT)
