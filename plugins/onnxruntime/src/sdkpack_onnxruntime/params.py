"""What a recipe may set for this runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["OnnxRuntimeParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntimeParams:
    """Session settings, fixed when the bundle is made; the defaults suit CPUs."""

    optimization: Literal["all", "extended", "basic", "off"] = "all"
    """ONNX Runtime's graph optimisation level, applied on the target when the model is opened."""
    weights: Literal["auto", "packed", "shared"] = "auto"
    """`packed`: rearranged for this CPU when opened, fastest runs. `shared`: used where they were decrypted to, opened
    in a fraction of the time, without a second copy. `auto`: shared from 64 MiB on, where the model allows it."""
    threads: int = 0
    """Threads inside an operator; 0: one for each core. A session's own `threads` overrides it."""
    spinning: bool = False
    """Threads wait for work by spinning: quicker single operators, but it takes the cores from everything else."""
    arena: bool = True
    """Keep freed memory for the next run."""
    device: str = "cpu"
    """An execution provider of the installed onnxruntime, as in `cpu`, `cuda`, `openvino`."""

    def __post_init__(self) -> None:
        if not 0 <= self.threads <= 1024:
            raise ValueError(f"threads: got {self.threads}, expected 0 to 1024")
        if not self.device.isalnum() or not self.device.islower():
            raise ValueError(f"device: got {self.device!r}, expected a lower-case word such as 'cpu'")
