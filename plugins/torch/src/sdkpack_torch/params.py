"""What a recipe may set for these converters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sdkpack.types import SHAPE_SYMBOL

__all__ = ["OPSETS", "ModuleParams", "ProgramParams", "ScriptParams"]

OPSETS: Final = range(13, 26)
"""torch's exporter writes 18 and later ones; older ones are made of 18 where every operator can be said in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramParams:
    """Settings of one conversion."""

    opset: int | None = None
    """Version of the ONNX operators to write, 13 to 25; absent: 20, or the newest that the targets take."""
    input_names: tuple[str, ...] = ()
    """Names for the inputs, in order, in place of the source's; all of them or none."""
    output_names: tuple[str, ...] = ()
    """Names for the outputs, in order. Absent: the keys of a dictionary that the source returns, else `output`, or
    `output_0`, `output_1` and so on."""

    def __post_init__(self) -> None:
        if self.opset is not None and self.opset not in OPSETS:
            raise ValueError(f"opset: got {self.opset}, expected {OPSETS[0]} to {OPSETS[-1]}")
        for what, names in (("input_names", self.input_names), ("output_names", self.output_names)):
            if len(set(names)) != len(names) or not all(names):
                raise ValueError(f"{what}: got {list(names)}, expected names that differ")
        if twice := set(self.input_names) & set(self.output_names):
            raise ValueError(f"output_names: {sorted(twice)} are names of inputs too")


@dataclass(frozen=True, slots=True, kw_only=True)
class _TracedParams(ProgramParams):
    dynamic: dict[str, dict[str, str]] = field(default_factory=dict)
    """Axes that stay open, by input and axis: `{ x = { 0 = "N" } }`, for inputs whose sizes come from samples."""
    constants: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments of `forward` that are fixed: `{ sr = 16000 }`. What depends on them is decided once."""

    def __post_init__(self) -> None:
        # super() needs a class cell, which a dataclass with slots does not keep.
        ProgramParams.__post_init__(self)
        for name, axes in self.dynamic.items():
            for axis, symbol in axes.items():
                if not axis.isdecimal():
                    raise ValueError(f"dynamic: got the axis {axis!r} of {name!r}, expected 0 or more")
                if not SHAPE_SYMBOL.fullmatch(symbol) or not symbol.isidentifier():
                    raise ValueError(f"dynamic: got {symbol!r} for axis {axis} of {name!r}, expected a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptParams(_TracedParams):
    """Settings of one conversion from TorchScript."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleParams(_TracedParams):
    """Settings of one conversion of weights and the module that they belong to."""

    factory: str = ""
    """`module:function` in `files.code`, called with `arguments`; returns the `torch.nn.Module`."""
    arguments: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Keyword arguments of the factory."""
    key: str = ""
    """Where the weights stand in a checkpoint that holds more: `state_dict`, `ema.model`. Absent: the only place that
    holds tensors."""

    def __post_init__(self) -> None:
        _TracedParams.__post_init__(self)
        module, _, function = self.factory.partition(":")
        if self.factory and not (function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ValueError(f"factory: got {self.factory!r}, expected 'module:function'")
