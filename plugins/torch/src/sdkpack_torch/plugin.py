"""The PyTorch plugin's rows. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import ConverterInfo, EnvironmentSpec, Half, Magic, hookimpl
from sdkpack_torch.params import ModuleParams, ProgramParams, ScriptParams

SDKPACK_API: Final = (1, 0)

ENVIRONMENT: Final = EnvironmentSpec(
    # torch without a suffix: the user's index settings decide between the build for processors and those for graphics
    # cards, which take several gigabytes.
    requirements=(
        "torch==2.13.0",
        "onnx==1.23.2",
        "onnxscript==0.7.2",
        "onnx-ir==1.1.0",
        "safetensors==0.8.0",
        "numpy==2.4.6",
    ),
    smoke_test=(
        "import onnx, onnxscript, safetensors.torch, torch\n"
        "import torch.onnx\n"
        "program = torch.export.export(torch.nn.Linear(2, 3), (torch.zeros(1, 2),))\n"
        "torch.onnx.export(program, dynamo=True, verbose=False).save('smoke.onnx')\n"
    ),
    size_bytes=1000 << 20,
)

_MEMORY_BYTES: Final = 16 << 30
"""Address space, not memory: torch maps much that it never touches."""
_LEGACY_PICKLE: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""torch.save before 1.6, and later on request: a pickled number of torch's own, then pickles and bare storages."""


def _half(load: str) -> Half:
    return Half(load=load, isolation="environment", environment=ENVIRONMENT, memory_limit_bytes=_MEMORY_BYTES)


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="torch.export",
            summary="PyTorch programs, as torch.export.save writes them (.pt2).",
            params=ProgramParams,
            capabilities=("evaluate",),
            half=_half("sdkpack_torch.program:ProgramConverter"),
            reads=("application/vnd.pytorch.exported-program",),
            members=("*/archive_format", "*/models/*.json", "*/data/weights/*"),
            suffixes=(".pt2",),
            time_limit_s=1800.0,
        ),
        ConverterInfo(
            name="torch.script",
            summary="TorchScript modules, as torch.jit.save writes them (.pt, .jit).",
            params=ScriptParams,
            capabilities=("evaluate",),
            half=_half("sdkpack_torch.script:ScriptConverter"),
            reads=("application/vnd.pytorch.torchscript",),
            members=("*/data.pkl", "*/code/*", "*/constants.pkl"),
            suffixes=(".jit", ".torchscript"),
            time_limit_s=1800.0,
        ),
        ConverterInfo(
            name="torch.state-dict",
            summary="PyTorch weights (.pth, .safetensors) with the Python module that they belong to.",
            params=ModuleParams,
            capabilities=("evaluate", "code", "sniff"),
            half=_half("sdkpack_torch.module:ModuleConverter"),
            reads=("application/vnd.pytorch.state-dict",),
            magics=(Magic(content=_LEGACY_PICKLE),),
            members=("*/data.pkl", "*/version"),
            suffixes=(".pth", ".pt", ".safetensors"),
            time_limit_s=1800.0,
        ),
    ]
