"""Two converters whose toolchains cannot be installed together: each wants another major version of one library."""

from __future__ import annotations

from pathlib import Path

from sdkpack.plugin import (
    ConverterInfo,
    ConvertRequest,
    ConvertResult,
    EnvironmentSpec,
    Half,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
    hookimpl,
)

SDKPACK_API = (1, 0)
SMOKE = "from google.protobuf import descriptor_pb2, message"
OLD = EnvironmentSpec(requirements=("protobuf==4.25.8",), smoke_test=SMOKE)
NEW = EnvironmentSpec(requirements=("protobuf>=7,<8",), smoke_test=SMOKE)


class Converter:
    """Takes ONNX behind a line of text through its own protobuf."""

    def probe(self) -> Probe:
        import google.protobuf

        return Probe(ok=True, fingerprint=f"protobuf {google.protobuf.__version__}")

    def sniff(self, request: SniffRequest) -> SniffResult:
        raise NotImplementedError

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        import google.protobuf
        from google.protobuf import descriptor_pb2

        # Any message keeps the fields that it does not know: parsing and writing are the library's own work.
        message = descriptor_pb2.UninterpretedOption()
        head, _, content = request.source.read_bytes().partition(b"\n")
        assert head in (b"OLD", b"NEW")
        message.ParseFromString(b"\xc2\x3e" + _varint(len(content)) + content)
        path = context.work / "model.onnx"
        path.write_bytes(message.SerializeToString()[2 + len(_varint(len(content))) :])
        return ConvertResult(model=path, tools={"protobuf": google.protobuf.__version__})


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def _info(name: str, environment: EnvironmentSpec, suffix: str) -> ConverterInfo:
    half = Half(load=f"{__name__}:Converter", isolation="environment", environment=environment)
    return ConverterInfo(name=name, summary="For tests.", half=half, reads=("application/x-test",), suffixes=(suffix,))


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [_info("test.old", OLD, ".old"), _info("test.new", NEW, ".new")]


def write_source(path: Path, model: bytes, head: bytes) -> None:
    path.write_bytes(head + b"\n" + model)
