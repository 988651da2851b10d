"""What kind of thing an operator does, and the colour of that kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "OPERATORS", "OTHER", "TERMINAL", "TEXT_COLOUR", "Kind", "kind_of"]

TEXT_COLOUR: Final = "#101418"
"""Of the labels on all colours below: each has a contrast of at least 7:1 with it (WCAG 2.2, 1.4.6), so one set serves
on light and on dark pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One entry of the legend."""

    name: str
    """Short, for classes in markup."""
    title: str
    colour: str
    """`#rrggbb`. The hues follow Okabe and Ito's set for colour-blind readers, lightened; the operator's name on every
    node says the same without colour."""


CONVOLUTION: Final = Kind(name="conv", title="convolution", colour="#7cc4f2")
MATRIX: Final = Kind(name="matrix", title="matrix product, recurrence, attention", colour="#a9b8ff")
NORMALISATION: Final = Kind(name="norm", title="normalisation", colour="#f5b041")
ACTIVATION: Final = Kind(name="act", title="activation", colour="#5fd3ab")
ARITHMETIC: Final = Kind(name="arith", title="arithmetic, comparison, logic", colour="#f4e36b")
POOLING: Final = Kind(name="pool", title="pooling, reduction", colour="#e0a890")
SHAPE: Final = Kind(name="shape", title="shape, layout, indexing", colour="#c3c8ce")
CONTROL: Final = Kind(name="flow", title="control flow, functions", colour="#f0a6cf")
QUANTISATION: Final = Kind(name="quant", title="quantisation", colour="#b9e07a")
OTHER: Final = Kind(name="other", title="other", colour="#ffffff")
TERMINAL: Final = Kind(name="end", title="input or output of the graph", colour="#e6e9ed")
"""No operator: where values come in and go out."""

OPERATORS: Final[dict[Kind, str]] = {
    CONVOLUTION: "Conv ConvTranspose DeformConv CausalConvWithState",
    MATRIX: "MatMul Gemm Einsum RNN LSTM GRU Attention LinearAttention RotaryEmbedding Det DFT STFT",
    NORMALISATION: """BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization
        LpNormalization MeanVarianceNormalization LRN Normalizer""",
    ACTIVATION: """Relu LeakyRelu PRelu ThresholdedRelu Elu Celu Selu Gelu Sigmoid HardSigmoid Swish HardSwish Mish Tanh
        Softplus Softsign Softmax LogSoftmax Hardmax SwiGLU Clip Shrink Dropout""",
    ARITHMETIC: """Add Sub Mul Div Mod Pow Sqrt Exp Log Abs Neg Sign Reciprocal Floor Ceil Round Erf Sin Cos Tan Asin
        Acos Atan Sinh Cosh Asinh Acosh Atanh Min Max Mean Sum CumSum CumProd And Or Xor Not Equal Greater
        GreaterOrEqual Less LessOrEqual IsNaN IsInf Where BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot
        BitCast Scaler""",
    POOLING: """AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool MaxRoiPool RoiAlign MaxUnpool
        ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
        ReduceSumSquare ArgMax ArgMin TopK NonMaxSuppression""",
    SHAPE: """Reshape Transpose Flatten Squeeze Unsqueeze Concat Split Slice Gather GatherElements GatherND Scatter
        ScatterElements ScatterND TensorScatter Expand Tile Pad Resize Upsample DepthToSpace SpaceToDepth Shape Size
        ConstantOfShape Range Identity Cast CastLike Compress NonZero Unique OneHot EyeLike Trilu ReverseSequence
        CenterCropPad Col2Im GridSample AffineGrid Constant""",
    CONTROL: "If Loop Scan SequenceMap",
    QUANTISATION: """QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger
        MatMulInteger""",
}  # fmt: skip
"""ONNX's operators by kind; those of other domains are told by name."""

KINDS: Final = (*OPERATORS, OTHER)
"""In the order of the legend."""

_BY_NAME: Final = {name: kind for kind, names in OPERATORS.items() for name in names.split()}
_PARTS: Final = (
    (("QLinear", "Quantize", "Dequantize", "QGemm", "QAttention", "MatMulNBits"), QUANTISATION),
    (("Normalization", "LayerNorm", "BatchNorm"), NORMALISATION),
    (("Attention", "MatMul", "Gemm", "LSTM"), MATRIX),
    (("Conv",), CONVOLUTION),
    (("Gelu", "Relu", "Sigmoid", "Silu", "Softmax"), ACTIVATION),
    (("Pool", "Reduce"), POOLING),
)
"""Words in the names of operators of other domains (`FusedConv`, `SkipLayerNormalization`); the first that fits."""


def kind_of(name: str, domain: str = "") -> Kind:
    """The kind of an operator."""
    if domain in ("", "ai.onnx", "ai.onnx.ml") or name in _BY_NAME:
        return _BY_NAME.get(name, OTHER)
    return next((kind for parts, kind in _PARTS if any(part in name for part in parts)), OTHER)
