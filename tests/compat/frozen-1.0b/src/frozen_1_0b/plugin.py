"""Written for plugin API 1.0, the kinds that frozen-1.0 lacks. This file is never changed: what it does must work for as
long as the API's major is 1."""

from __future__ import annotations

from dataclasses import dataclass

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import (
    CompressorInfo,
    CompressResult,
    ConverterInfo,
    ConvertResult,
    EvaluateResult,
    Half,
    Magic,
    OptimizeResult,
    OptimizerInfo,
    Probe,
    SniffResult,
    hookimpl,
)

SDKPACK_API = (1, 0)


@dataclass(frozen=True)
class TableParams:
    shift: float = 0.0


class Table:
    """Reads `TABLE` and numbers, the weights of a product with x, element by element."""

    def probe(self):
        return Probe(ok=True, fingerprint="frozen table 1")

    def sniff(self, request):
        if request.source.is_dir():
            return SniffResult(score=0.0)
        with request.source.open("rb") as file:
            return SniffResult(score=0.9 if file.read(5) == b"TABLE" else 0.0, reason="its first word")

    def convert(self, request, context):
        import numpy as np

        weights = self._weights(request)
        context.progress(0.5, "half")
        context.log.info("%d weights for %s", len(weights), request.name)
        path = context.work / "table.onnx"
        inputs = {spec.name: spec for spec in request.inputs}
        batch = inputs["x"].shape[0] if "x" in inputs else "N"
        path.write_bytes(_product(np.array(weights, "float32"), request.params.shift, batch, request.opset or 17))
        return ConvertResult(model=path, notes=("a table",), tools={"table": "1"}, files={})

    def evaluate(self, request, context):
        import numpy as np

        weights = np.array(self._weights(request.conversion), "float32")
        made = []
        for number, sample in enumerate(request.samples):
            with np.load(sample, allow_pickle=False) as arrays:
                if set(arrays.files) != {"x"}:
                    raise ModelError(f"expected the input x, got {', '.join(arrays.files)}")
                made.append(context.work / f"{number}.npz")
                np.savez(made[-1], y=arrays["x"] * weights + np.float32(request.conversion.params.shift))
        assert request.model.is_file() and request.tensors == ()
        return EvaluateResult(outputs=tuple(made), notes=(), tools={"table": "1"})

    def _weights(self, request):
        assert request.allow_code is False and request.samples == () and request.writes == "application/vnd.onnx"
        try:
            word, *numbers = request.source.read_text("ascii").split()
            weights = [float(number) for number in numbers]
        except ValueError as error:
            raise ModelError(f"no table: {error}", hint="write TABLE and numbers") from error
        if word != "TABLE" or not weights:
            raise ModelError("no table", hint="write TABLE and numbers")
        if "more" in request.files:
            weights = [weight + float(request.files["more"].read_text()) for weight in weights]
        return weights


def _product(weights, shift, batch, opset):
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["h"], "mul"), helper.make_node("Add", ["h", "s"], ["y"], "add")],
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, len(weights)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, len(weights)])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(weights.dtype.type(shift).reshape(1), "s"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", min(opset, 17))], ir_version=8)
    return model.SerializeToString(deterministic=True)


def _read(path):
    from onnx import load

    try:
        return load(path)
    except Exception as error:
        raise StepError(f"the frozen tool cannot read it: {error}") from error


class Namer:
    """Drops the doc strings of nodes."""

    def probe(self):
        return Probe(ok=True, fingerprint="frozen namer 1")

    def optimize(self, request, context):
        source = request.model
        assert request.params is None and source.name and source.inputs and source.outputs
        model = _read(source.path)
        context.progress(None)
        told = [node for node in model.graph.node if node.doc_string]
        if not told:
            return OptimizeResult(model=source.path, modified=False)
        for node in told:
            node.ClearField("doc_string")
        path = context.work / "named.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return OptimizeResult(model=path, modified=True, notes=(f"{len(told)} doc strings",), tools={"namer": "1"})


@dataclass(frozen=True)
class RoundParams:
    digits: int = 3


class Rounder:
    """Rounds weights."""

    def probe(self):
        return Probe(ok=True, fingerprint="frozen rounder 1", missing="", mend="")

    def compress(self, request, context):
        from onnx import numpy_helper

        assert request.budget is None or request.budget > 0
        if not request.samples:
            raise ModelError("it needs samples", hint="give samples")
        model = _read(request.model.path)
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f":
                rounded = array.round(request.params.digits).astype(array.dtype)
                tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
        context.progress(1.0, "rounded")
        path = context.work / "rounded.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        return CompressResult(model=path, precision=request.precision, notes=(), tools={"rounder": "1"})


@hookimpl
def sdkpack_converters():
    return [
        ConverterInfo(
            name="frozen.table",
            summary="Tables.",
            params=TableParams,
            reads=("text/x-frozen-table",),
            magics=(Magic(content=b"TABLE", offset=0),),
            suffixes=(".table",),
            capabilities=("sniff", "evaluate"),
            half=Half(load=f"{__name__}:Table"),
        )
    ]


@hookimpl
def sdkpack_optimizers():
    half = Half(load=f"{__name__}:Namer")
    return [OptimizerInfo(name="frozen.namer", summary="No doc strings.", category="information", half=half)]


@hookimpl
def sdkpack_compressors():
    half = Half(load=f"{__name__}:Rounder")
    return [
        CompressorInfo(
            name="frozen.rounder",
            summary="Fewer digits.",
            params=RoundParams,
            precisions=("int8", "float16"),
            capabilities=("samples",),
            half=half,
        )
    ]
