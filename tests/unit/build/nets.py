"""A made-up format with a framework of its own: a JSON list of layers, run by NumPy, converted to ONNX.

Its params plant faults into the conversion, or into the framework, for the comparison to find.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    ConverterInfo,
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Half,
    Magic,
    Probe,
    RuntimeInfo,
    StepContext,
    hookimpl,
)
from sdkpack.types import Quantization, TensorSpec

SDKPACK_API = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetParams:
    wrong: int = -1
    """The layer whose ONNX node gets another constant."""
    hide: bool = False
    """The framework shows no inner tensors."""
    live: bool = False
    """The framework's answers differ each time."""
    off: int = 0
    """Steps by which the framework's 8-bit output differs, in one element."""
    lose: bool = False
    """The framework gives no output."""
    unable: bool = False
    """The framework cannot run this net."""


class NetConverter:
    """`y = (((x op0 c0) op1 c1) ...)`, tensors `t0`, `t1`, ..."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="net 1")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper, save

        layers = _layers(request)
        opset = min(request.opset or 17, 17)
        dtype = TensorProto.UINT8 if layers[-1][0] == "Quantize" else TensorProto.FLOAT
        names = [f"t{number}" for number in range(len(layers) - 1)] + ["y"]
        nodes, constants, last = [], [], "x"
        for number, ((op, value), name) in enumerate(zip(layers, names, strict=True)):
            if op == "Quantize":
                nodes.append(helper.make_node("QuantizeLinear", [last, "s", "z"], [name]))
                constants += [
                    numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.uint8(128), "z")
                ]  # fmt: skip
            else:
                value = value + 1 if number == request.params.wrong else value
                constants.append(numpy_helper.from_array(np.float32(value), f"c{number}"))
                nodes.append(helper.make_node(op, [last, f"c{number}"], [name], name=f"layer{number}"))
            last = name
        shape: list[Any] = list(request.inputs[0].shape) if request.inputs else ["N", 3]
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", dtype, shape)], constants,
        )  # fmt: skip
        path = context.work / "net.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
        quant = Quantization(scale=(1.0,), zero_point=(128,))
        told = TensorSpec(name="y", dtype="uint8", shape=(), layout="NC", quant=quant)
        return ConvertResult(model=path, outputs=(told,), tools={"net": "1"})

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        import numpy as np

        params: NetParams = request.conversion.params
        if params.unable:
            return EvaluateResult(outputs=(), notes=("its framework is retired",))
        layers = _layers(request.conversion)
        paths = []
        for number, sample in enumerate(request.samples):
            with np.load(sample) as archive:
                value = archive["x"]
            found = {}
            for index, (op, constant) in enumerate(layers):
                value = _RUN[op](value, np.float32(constant))
                found[f"t{index}"] = value
            if params.live:
                value = value + np.float32(number)
            value = value.copy()
            value.flat[0] += params.off
            found |= {} if params.lose else {"y": value}
            wanted = {"y", *(() if params.hide else request.tensors)}
            paths.append(context.work / f"answer-{number}.npz")
            np.savez(paths[-1], **{name: array for name, array in found.items() if name in wanted})
        return EvaluateResult(outputs=tuple(paths), tools={"net": "1"})


def _layers(request: ConvertRequest) -> list[tuple[str, float]]:
    text = request.source.read_text(encoding="utf-8").removeprefix("NET")
    try:
        return [(op, float(value)) for op, value in json.loads(text)]
    except ValueError as error:
        raise ModelError(f"no layers in it: {error}", hint="write NET and a JSON list") from error


def _quantize(value: Any, _: Any) -> Any:
    import numpy as np

    return np.clip(np.rint(value) + 128, 0, 255).astype(np.uint8)


_RUN = {"Mul": lambda a, b: a * b, "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Quantize": _quantize}


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterParams:
    wrong: bool = False


class NetWriter:
    """The other direction: a chain of Mul, Add and Sub as a list of layers, and a file with the names of its nodes."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="netwriter 1")

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(request.source).graph
        values = {tensor.name: float(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        layers = [[node.op_type, values[node.input[1]]] for node in graph.node]
        layers[0][1] += request.params.wrong
        path, names = context.work / "made.net", context.work / "made.names"
        path.write_text("NET" + json.dumps(layers))
        names.write_text("\n".join(node.name for node in graph.node))
        assert request.writes == "text/x-net"
        return ConvertResult(model=path, files={"names": names}, tools={"netwriter": "1"})


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="test.net", summary="For tests.", params=NetParams, half=Half(load=f"{__name__}:NetConverter"),
            reads=("text/x-net",), magics=(Magic(content=b"NET"),), capabilities=("evaluate",),
        ),
        ConverterInfo(
            name="test.netwriter", summary="For tests.", params=WriterParams,
            half=Half(load=f"{__name__}:NetWriter"), reads=("application/vnd.onnx",), writes=("text/x-net",),
        ),
    ]  # fmt: skip


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    compiler = Half(load="sdkpack_onnxruntime.compile:OnnxRuntimeCompiler")
    runner = Half(load="sdkpack_onnxruntime.run:OnnxRuntimeRunner")
    return [RuntimeInfo(name="test.old", summary="For tests.", compiler=compiler, runner=runner, opsets=(9, 12))]
