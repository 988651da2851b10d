"""What the plugin says of itself. Imports nothing but the plugin API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdkpack.plugin import Half, RuntimeInfo, hookimpl

SDKPACK_API = (1, 0)
TOKEN = "npu2-program/3"


@dataclass(frozen=True, kw_only=True)
class Npu2Params:
    """What a recipe may set for a target."""

    memory_kib: int = 4096
    """Memory of the device, which weights and activations share."""
    absorb: bool = True
    """Normalises on the device where the pipeline does it right before the model."""
    crash: Literal["", "segfault", "hang", "garbage", "forget"] = ""
    """What goes wrong in the toolchain: for tests of what contains it."""

    def __post_init__(self) -> None:
        if not 1 <= self.memory_kib <= 1 << 20:
            raise ValueError(f"memory_kib: got {self.memory_kib}, expected 1 to {1 << 20}")


@hookimpl
def sdkpack_runtimes() -> list[RuntimeInfo]:
    return [
        RuntimeInfo(
            name="acme.npu2",
            summary="Acme NPU2 accelerators, and their simulator.",
            params=Npu2Params,
            precisions=("int8",),
            capabilities=("compile.joint", "quantize.self"),
            platforms=("linux/*",),
            requires=("numpy>=2.0", "onnx>=1.18"),
            time_limit_s=60.0,
            compiler=Half(load="acme_npu2.compiler:Npu2Compiler"),
            runner=Half(load="acme_npu2.runner:Npu2Runner"),
        )
    ]
