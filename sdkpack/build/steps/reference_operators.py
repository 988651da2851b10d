"""Operators that ONNX's reference implementation gets wrong, or lacks, computed after their definition."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["corrected_operators"]

_TRAINING_MODE: Final = 14
"""Up to opset 13 one output of BatchNormalization means inference, whatever `momentum` says (versions 7 and 9). The
reference of onnx 1.18 to 1.23 takes a stated momentum for training and normalises by the input's own statistics."""
_SOFTMAX_OF_ONE_AXIS: Final = 13
"""Before opset 13 Softmax and its kin take all axes from `axis` (by default 1) on as one. The reference takes one."""
_DEQUANTIZE: Final = range(10, 19)
"""The reference has DequantizeLinear from opset 19 on only."""


def corrected_operators(opset: int) -> list[type[Any]]:
    """What to give the evaluator as `new_ops` for a model of this opset."""
    found = [_lrn()]
    if 7 <= opset < _TRAINING_MODE:
        found.append(_batch_normalization())
    if opset < _SOFTMAX_OF_ONE_AXIS:
        found += [
            _flattened("Softmax", _softmax),
            _flattened("LogSoftmax", _log_softmax),
            _flattened("Hardmax", _hardmax),
        ]
    if opset in _DEQUANTIZE:
        found.append(_dequantize_linear())
    return found


def _lrn() -> type[Any]:
    import numpy as np
    from onnx.reference.op_run import OpRun

    class LRN(OpRun):
        """LRN 1 and 13: the window of channel c is [c - floor((size - 1) / 2), c + ceil((size - 1) / 2)]. The reference
        of onnx 1.23 leaves out the window's last channel."""

        op_domain = ""

        def _run(
            self, x: Any, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1, **_: Any
        ) -> tuple[Any, ...]:
            channels = x.shape[1]
            squares = np.zeros_like(x)
            for channel in range(channels):
                first, last = max(0, channel - (size - 1) // 2), min(channels - 1, channel + size // 2)
                squares[:, channel] = np.square(x[:, first : last + 1]).sum(axis=1)
            return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)

    return LRN


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


def _softmax(x: Any) -> Any:
    import numpy as np

    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _log_softmax(x: Any) -> Any:
    import numpy as np

    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _hardmax(x: Any) -> Any:
    import numpy as np

    return np.eye(x.shape[1], dtype=x.dtype)[x.argmax(axis=1)]


def _flattened(name: str, compute: Any) -> type[Any]:
    """An operator of versions 1 and 11: over the matrix that the input becomes at `axis`."""
    import math

    from onnx.reference.op_run import OpRun

    def run(self: Any, x: Any, axis: int = 1, **_: Any) -> tuple[Any, ...]:
        # Where the node states none, the evaluator fills in the newest version's default.
        stated = any(attribute.name == "axis" for attribute in self.onnx_node.attribute)
        at = (axis if stated else 1) % max(x.ndim, 1)
        rows = math.prod(x.shape[:at])
        return (compute(x.reshape(rows, -1)).reshape(x.shape).astype(x.dtype),)

    return type(name, (OpRun,), {"op_domain": "", "_run": run})


def _dequantize_linear() -> type[Any]:
    from onnx.reference.op_run import OpRun

    class DequantizeLinear(OpRun):
        """Versions 10 and 13: (x - zero_point) * scale, by tensor or along `axis`."""

        op_domain = ""

        def _run(
            self, x: Any, scale: Any, zero_point: Any = None, axis: int | None = None, **_: Any
        ) -> tuple[Any, ...]:
            if scale.ndim and scale.size > 1:
                shape = [1] * x.ndim
                shape[(1 if axis is None else axis) % x.ndim] = -1
                scale = scale.reshape(shape)
                zero_point = None if zero_point is None else zero_point.reshape(shape)
            shifted = x.astype("int64") - (0 if zero_point is None else zero_point.astype("int64"))
            return ((shifted.astype(scale.dtype) * scale).reshape(x.shape),)

    return DequantizeLinear
