"""The float16 compressor: weights and sums in half the bits, inputs and outputs as they were.

onnxruntime's own conversion does the work. What it leaves undone is done here: initializers that are listed as inputs
stay in float32 there, and the casts that it adds stand at the end of the graph, which ONNX does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import CompressRequest, CompressResult, Probe, StepContext
from sdkpack_onnxruntime.library import load_library

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

__all__ = ["Float16Compressor", "Float16Params"]


@dataclass(frozen=True)
class Float16Params:
    """Which operators stay in float32."""

    keep: tuple[str, ...] = ()
    """Types of operators, such as `Softmax` or `InstanceNormalization`, beside those that have no float16 form."""
    keep_nodes: tuple[str, ...] = ()
    """Names of single nodes."""


class Float16Compressor:
    """A `sdkpack.plugin.Compressor`."""

    def probe(self) -> Probe:
        try:
            import onnx

            onnxruntime = load_library()
        except ImportError as error:
            return Probe(ok=False, missing=f"it needs onnxruntime: {error}", mend="pip install onnxruntime")
        return Probe(ok=True, fingerprint=f"onnxruntime {onnxruntime.__version__} onnx {onnx.__version__}")

    def compress(self, request: CompressRequest, context: StepContext) -> CompressResult:
        """
        Raises:
            ModelError: the model is damaged, holds nothing in float32, or has no node of a name that is to be kept.
            StepError: the conversion failed.
        """
        import onnx

        onnxruntime = load_library()
        from onnxruntime.transformers import float16

        params: Float16Params = request.params or Float16Params()
        model = _loaded(request)
        if not _float_weights(model):
            raise ModelError(
                "the model has no float32 weights, so float16 saves nothing", hint="leave compress out for this model"
            )
        _check_nodes(model, params)
        _drop_inputs_with_values(model)
        context.progress(None, "converting to float16")
        blocked = sorted({*float16.DEFAULT_OP_BLOCK_LIST, *params.keep})
        cut = _beyond_range(model)
        try:
            made = float16.convert_float_to_float16(
                model, keep_io_types=True, op_block_list=blocked, node_block_list=list(params.keep_nodes)
            )
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise StepError(f"onnxruntime's float16 conversion failed: {type(error).__name__}: {error}") from error
        _sort(made.graph)
        path = context.work / "float16.onnx"
        onnx.save(made, path)
        return CompressResult(
            model=path,
            precision="float16",
            notes=(f"{cut} weights are outside of float16's range and were cut off",) if cut else (),
            tools={"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
        )


def _loaded(request: CompressRequest) -> ModelProto:
    """
    Raises:
        ModelError: it is no model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(request.model.path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the model is damaged: {' '.join(str(error).split())}") from error


def _float_weights(model: ModelProto) -> bool:
    from onnx import TensorProto

    held = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    return any(tensor.data_type == TensorProto.FLOAT for tensor in held)


def _beyond_range(model: ModelProto) -> int:
    """How many weights float16 cannot hold: the loss shows it, and this says why."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    tensors = (tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    limit = float(np.finfo(np.float16).max)
    return sum(int((np.abs(numpy_helper.to_array(tensor)) > limit).sum()) for tensor in tensors)


def _check_nodes(model: ModelProto, params: Float16Params) -> None:
    names = {node.name for node in model.graph.node}
    unknown = [name for name in params.keep_nodes if name not in names]
    if unknown:
        raise ModelError(f"keep_nodes names {unknown[0]!r}, and the model has no node of that name")


def _drop_inputs_with_values(model: ModelProto) -> None:
    """Initializers that are inputs too could be replaced by a caller, so the conversion leaves them as they are. What
    the model declares as its inputs to sdkpack has none of them."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _sort(graph: GraphProto) -> None:
    """Puts each node after those that it needs, and leaves the order alone otherwise (Kahn, 1962)."""
    made_by = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [{made_by[name] for name in _reads(node) if name in made_by} for node in graph.node]
    readers: dict[int, list[int]] = {}
    for number, before in enumerate(needs):
        for other in before:
            readers.setdefault(other, []).append(number)
    import heapq

    ready = [number for number, before in enumerate(needs) if not before]
    heapq.heapify(ready)
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(graph.node[number])
        for reader in readers.get(number, ()):
            needs[reader].discard(number)
            if not needs[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(graph.node):
        raise StepError("the converted graph has a cycle")
    nodes = [type(node).FromString(node.SerializeToString()) for node in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _reads(node: Any) -> list[str]:
    """Names that a node reads, those inside its subgraphs included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs:
            names += [name for inner in graph.node for name in _reads(inner)]
            names += [value.name for value in graph.output]
    return names
