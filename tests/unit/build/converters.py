"""Converters for the tests of this folder: of a text format that lists the sizes of a matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdkpack.errors import ModelError
from sdkpack.plugin import (
    CompiledModel,
    CompiledPart,
    CompileRequest,
    CompileResult,
    CompressorInfo,
    CompressRequest,
    CompressResult,
    ConverterInfo,
    ConvertRequest,
    ConvertResult,
    Coverage,
    EnvironmentSpec,
    Half,
    Magic,
    OptimizeRequest,
    OptimizeResult,
    OptimizerInfo,
    PartFile,
    Probe,
    RuntimeInfo,
    SniffRequest,
    SniffResult,
    StepContext,
    hookimpl,
)

SDKPACK_API = (1, 0)
EMPTY = EnvironmentSpec(requirements=(), smoke_test="import struct")


@dataclass(frozen=True)
class Params:
    bias: float = 0.0


class Converter:
    """Writes ONNX by hand: what an environment without the onnx package has to do."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="sizes 1")

    def sniff(self, request: SniffRequest) -> SniffResult:
        return SniffResult(score=0.6 if b"sizes" in request.source.read_bytes() else 0.0)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        words = request.source.read_bytes().split()
        if words[:1] != [b"SIZES"] or len(words) != 2 or not words[1].isdigit():
            raise ModelError("no sizes in it", hint="write SIZES and a number")
        size = int(words[1])
        if not size:
            raise ModelError("no product of size 0")
        scale = float(request.files["scale"].read_text()) if "scale" in request.files else 1.0
        model = context.work / "model.onnx"
        model.write_bytes(_product(size, scale, request.params.bias, min(request.opset or 17, 17)))
        return ConvertResult(model=model, notes=(f"made by {Path.cwd().name}",), tools={"sizes": "1"})


def _product(size: int, scale: float, bias: float, opset: int) -> bytes:
    """`y = x * scale + bias`, x of [1, size], as the bytes of a protobuf message."""
    import struct

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3]) + bytes([content])
        return bytes([number << 3 | 2]) + _varint(len(content)) + content

    def tensor(name: bytes, value: float) -> bytes:
        return field(2, 1) + field(8, name) + field(9, struct.pack("<f", value))

    def info(name: bytes) -> bytes:
        dims = field(1, field(1, 1)) + field(1, field(1, size))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    def node(kind: bytes, inputs: tuple[bytes, bytes], output: bytes) -> bytes:
        return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)

    graph = field(1, node(b"Mul", (b"x", b"s"), b"h")) + field(1, node(b"Add", (b"h", b"b"), b"y"))
    graph += field(2, b"g") + field(5, tensor(b"s", scale)) + field(5, tensor(b"b", bias))
    graph += field(11, info(b"x")) + field(12, info(b"y"))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, opset))


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


class Compiler:
    """Passes a model through, as a vendor's compiler would write its own file: without any of sdkpack's libraries."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="apart 1")

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        [model] = request.models
        engine = context.work / "engine.onnx"
        engine.write_bytes(model.path.read_bytes())
        files = (
            PartFile(role="model", path=engine, media_type="application/x-test"),
            PartFile(role="graph", path=model.graph, media_type="application/x-graph"),
        )
        part = CompiledPart(
            runtime="test.apart", files=files, inputs=model.inputs, outputs=model.outputs,
            options={"model": "not a path", "factor": 1.0, "noise": 0.0},
        )  # fmt: skip
        compiled = CompiledModel(
            name=model.name, parts=(part,), token="t1", coverage=Coverage(nodes_total=2, nodes_on_device=1)
        )
        return CompileResult(models=(compiled,))


class Halver:
    """A compressor that does what its parameter says: the loss is the core's to find."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="halver 1")

    def compress(self, request: CompressRequest, context: StepContext) -> CompressResult:
        import onnx

        model = onnx.load(request.model.path)
        wish: HalverParams = request.params
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor) * wish.factor
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype("float32"), tensor.name))
        if wish.rename:
            model.graph.input[0].name = wish.rename
            model.graph.node[0].input[0] = wish.rename
        path = context.work / "model.onnx"
        onnx.save(model, path)
        return CompressResult(model=path, precision=wish.precision)


@dataclass(frozen=True)
class HalverParams:
    factor: float = 1.0
    rename: str = ""
    precision: str = "float32"


class Nothing:
    """An optimizer that finds nothing to do."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint="nothing 1")

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        return OptimizeResult(model=request.model.path, modified=False)


def _converter(name: str, isolation: str = "in-process", **facts: object) -> ConverterInfo:
    half = Half(
        load=f"{__name__}:Converter",
        isolation=isolation,  # type: ignore[arg-type]
        environment=EMPTY if isolation == "environment" else None,
    )
    return ConverterInfo(name=name, summary="For tests.", params=Params, half=half, reads=("text/x-sizes",), **facts)  # type: ignore[arg-type]


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        _converter("test.sizes", "environment", magics=(Magic(content=b"SIZES"),), suffixes=(".sizes",)),
        _converter("test.twin", suffixes=(".sizes", ".twin"), capabilities=("sniff",)),
        _converter("test.other", suffixes=(".twin", ".pair")),
        _converter("test.pair", suffixes=(".pair",)),
        _converter("test.folder", members=("net.txt", "*/weights.*"), suffixes=(".net",)),
        _converter("test.archive", members=("net.txt",)),
        _converter("test.back", writes=("application/x-test",), suffixes=(".back",)),
    ]


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    compiler = Half(load=f"{__name__}:Compiler", isolation="environment", environment=EMPTY)
    runner = Half(load="tests.unit.build.plugins:FaultyRunner")
    return [
        RuntimeInfo(
            name="test.apart", summary="For tests.", compiler=compiler, runner=runner, capabilities=("run.concurrent",)
        )
    ]


@hookimpl
def sdkpack_optimizers() -> list[OptimizerInfo]:
    half = Half(load=f"{__name__}:Nothing")
    return [OptimizerInfo(name="test.nothing", summary="For tests.", half=half, category="dependency")]


@hookimpl
def sdkpack_compressors() -> list[CompressorInfo]:
    half = Half(load=f"{__name__}:Halver")
    return [
        CompressorInfo(
            name="test.halver", summary="For tests.", half=half, params=HalverParams, precisions=("float32", "int8")
        )
    ]
