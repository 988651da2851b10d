"""A part's options: JSON fixed by the compiler, read by the runner, turned into session options.

The list is closed. ONNX Runtime can write what it derives from a model to files (`optimized_model_filepath`,
profiling, caches of execution providers) and load code (custom operator libraries); a bundle can ask for none of it,
because no option leads there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from sdkpack.errors import RunError
from sdkpack_onnxruntime.params import OnnxRuntimeParams

__all__ = ["Options"]

_LEVELS: Final = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}
# Errors are raised; printed as well they would stand among the output of whoever uses the bundle.
_FATAL_ONLY: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a session is made; `weights` is decided by then."""

    optimization: str = "all"
    weights: str = "packed"
    threads: int = 0
    spinning: bool = False
    arena: bool = True
    device: str = "cpu"

    @classmethod
    def of(cls, params: OnnxRuntimeParams, weights: str) -> Self:
        """The recipe's wishes with the treatment of weights decided."""
        return cls(**{**asdict(params), "weights": weights})

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Self:
        """Reads what a bundle says.

        Raises:
            RunError: an option is unknown or has an impossible value.
        """
        known = {field.name for field in fields(cls)}
        for name in options:
            if name not in known:
                raise RunError(
                    f"option {name!r} of runtime 'onnxruntime' is not allowed, expected one of {sorted(known)}",
                    hint="update sdkpack-onnxruntime, or pack the bundle again",
                )
        result = cls(**options)
        allowed = {"optimization": set(_LEVELS), "weights": {"packed", "shared"}}
        for name, default in asdict(cls()).items():
            value = getattr(result, name)
            if type(value) is not type(default) or value not in allowed.get(name, {value}):
                raise RunError(f"option {name!r} of runtime 'onnxruntime' has the impossible value {value!r}")
        return result

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def session_options(self, library: Any, threads: int | None) -> Any:
        """A fresh `SessionOptions`; `threads` overrides the fixed number."""
        result = library.SessionOptions()
        result.graph_optimization_level = getattr(library.GraphOptimizationLevel, _LEVELS[self.optimization])
        result.intra_op_num_threads = self.threads if threads is None else threads
        result.inter_op_num_threads = 1
        result.enable_cpu_mem_arena = self.arena
        result.log_severity_level = _FATAL_ONLY
        result.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.spinning else "0")
        if self.device != "cpu":
            # Without it, nodes that the device cannot run move to the CPU silently.
            result.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if self.weights == "shared":
            # Prepacking would make the copy that sharing is there to avoid.
            result.add_session_config_entry("session.disable_prepacking", "1")
        return result
