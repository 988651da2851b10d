"""Operators that ONNX's reference implementation gets wrong, computed after their definition."""

from __future__ import annotations

from typing import Any

__all__ = ["corrected_operators"]

# Up to opset 13 one output means inference, whatever `momentum` says (ONNX, BatchNormalization 7 and 9). The reference
# of onnx 1.18 to 1.23 takes a stated momentum for training and normalises with the statistics of the input itself.
_FIRST_WITH_TRAINING_MODE = 14


def corrected_operators(opset: int) -> list[type[Any]]:
    """What to give the evaluator as `new_ops` for a model of this opset."""
    return [_batch_normalization()] if 7 <= opset < _FIRST_WITH_TRAINING_MODE else []


def _batch_normalization() -> type[Any]:
    import numpy as np
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(
            self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any,
            epsilon: float = 1e-5, momentum: float = 0.9, **_: Any,
        ) -> tuple[Any, ...]:  # fmt: skip
            if len(self.onnx_node.output) > 1:
                raise ValueError("batch normalisation in training mode")
            shape = (1, -1) + (1,) * (x.ndim - 2)
            scale, bias, mean, variance = (one.reshape(shape) for one in (scale, bias, mean, variance))
            return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)

    return BatchNormalization
