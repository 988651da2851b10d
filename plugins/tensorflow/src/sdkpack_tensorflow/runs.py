"""What evaluations have in common: samples in, arrays out, and inner tensors in the converted model's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import EvaluateRequest
from sdkpack_tensorflow.onnx_writer import Port

__all__ = ["Inner", "feed_of", "read_sample", "write_outputs"]

_NHWC_OF_NCHW: Final = (0, 2, 3, 1)
_NCHW_OF_NHWC: Final = (0, 3, 1, 2)
_RANK_4: Final = 4
_SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "Conv2D": ("Conv",), "DepthwiseConv2dNative": ("Conv",), "Conv2DBackpropInput": ("ConvTranspose",),
    "BiasAdd": ("Conv", "Add", "ConvTranspose"), "FusedBatchNormV3": ("BatchNormalization", "Conv"),
    "MatMul": ("MatMul", "Gemm"), "BatchMatMulV2": ("MatMul",), "Relu": ("Relu",), "Relu6": ("Clip",), "Elu": ("Elu",),
    "Sigmoid": ("Sigmoid",), "Tanh": ("Tanh",), "Softmax": ("Softmax",), "LeakyRelu": ("LeakyRelu",),
    "AddV2": ("Add",), "Add": ("Add",), "Sub": ("Sub",), "Mul": ("Mul",), "RealDiv": ("Div",), "Exp": ("Exp",),
    "Log": ("Log",), "Sqrt": ("Sqrt",), "MaxPool": ("MaxPool",), "AvgPool": ("AveragePool",), "ConcatV2": ("Concat",),
    "Reshape": ("Reshape",), "Transpose": ("Transpose",), "Mean": ("ReduceMean", "GlobalAveragePool"),
    "PadV2": ("Pad",), "Pad": ("Pad",), "ResizeBilinear": ("Resize",), "ResizeNearestNeighbor": ("Resize",),
}  # fmt: skip
"""TensorFlow operator -> what it may have become."""


def read_sample(path: Path, inputs: Sequence[Port]) -> dict[str, Any]:
    """The arrays of one sample by their names.

    Raises:
        ModelError: the sample lacks inputs; all of them.
    """
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        missing = [port.name for port in inputs if port.name not in stored.files]
        if missing:
            has = ", ".join(stored.files)
            raise ModelError(f"sample {path.name!r} lacks the inputs {', '.join(missing)}; it has {has}")
        return {port.name: stored[port.name] for port in inputs}


def feed_of(sample: Mapping[str, Any], inputs: Sequence[Port]) -> dict[str, Any]:
    """The arrays of a sample by the source's tensors, in the source's layout."""
    import numpy as np

    return {
        port.tensor: np.ascontiguousarray(sample[port.name].transpose(_NHWC_OF_NCHW)) if port.as_nchw
        else sample[port.name]
        for port in inputs
    }  # fmt: skip


def write_outputs(path: Path, values: Mapping[str, Any]) -> Path:
    """One npz without objects: text becomes fixed-width text."""
    import numpy as np

    arrays = {}
    for name, value in values.items():
        array = np.asarray(value)
        arrays[name] = array.astype(np.str_) if array.dtype == object else array
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """Inner tensors of the converted model that were asked for."""

    model: Any
    """An `onnx.ModelProto`; None where nothing was asked for."""
    producers: Mapping[str, str]
    """Wanted tensor -> the ONNX operator that makes it."""

    @staticmethod
    def of(request: EvaluateRequest) -> Inner:
        import onnx

        if not request.tensors:
            return Inner(model=None, producers={})
        model = onnx.load(request.model)
        made = {output: node.op_type for node in model.graph.node for output in node.output}
        return Inner(model=model, producers={name: made[name] for name in request.tensors if name in made})

    def of_graph(
        self, graph: Any, inputs: Mapping[str, Any], run: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The wanted tensors that a TensorFlow graph has under the same names.

        tf2onnx now and then gives a name of TensorFlow's to a step on the way to that tensor. So only those count that
        an operator of the same meaning makes.

        Args:
            graph: a `tf.Graph`.
            inputs: the sample by the converted model's names.
            run: fetches tensors.
        """
        operations = {operation.name: operation for operation in graph.get_operations()}
        fetches = {}
        for name, kind in self.producers.items():
            operation, _, port = name.rpartition(":")
            found = operations.get(operation)
            if found is not None and port == "0" and kind in _SAME.get(found.type, ()):
                fetches[name] = found.outputs[0]
        return self.fitting(run(fetches), inputs) if fetches else {}

    def fitting(self, values: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the converted model holds them. One whose layout cannot be told from its shape is left out: a
        transposed tensor taken for an equal one would put the blame on the wrong operator."""
        known = self._shapes(inputs)
        fitted = {}
        for name, value in values.items():
            if name not in known or value.dtype.name != known[name][0]:
                continue
            shape = known[name][1]
            turned = tuple(value.shape[axis] for axis in _NCHW_OF_NHWC) if value.ndim == _RANK_4 else None
            if value.shape == shape and (turned != shape or _same_either_way(value.shape)):
                fitted[name] = value
            elif turned == shape and value.shape != shape:
                fitted[name] = value.transpose(_NCHW_OF_NHWC)
        return fitted

    def _shapes(self, inputs: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Element types and sizes of inner tensors for one sample, by ONNX's own inference."""
        import onnx

        for value in self.model.graph.input:
            if value.name in inputs:
                for dim, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].shape, strict=True):
                    dim.dim_value = size
        del self.model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        known = {}
        for value in inferred.graph.value_info:
            kind = value.type.tensor_type
            if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
                name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
                known[value.name] = (name, tuple(dim.dim_value for dim in kind.shape.dim))
        return known


def _same_either_way(shape: tuple[int, ...]) -> bool:
    """Whether NHWC and NCHW hold the numbers in one order."""
    return shape[1] * shape[2] == 1 or shape[3] == 1
