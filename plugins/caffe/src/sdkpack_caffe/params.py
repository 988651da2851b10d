"""What a recipe may set for this converter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["OPSETS", "CaffeParams", "CaffeWriterParams"]

OPSETS: Final = range(13, 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaffeParams:
    """Settings of one conversion."""

    opset: int = 17
    """Version of the ONNX operators to write, 13 to 21."""
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Shapes of inputs in place of the prototxt's: `{ data = [1, 3, 96, 128] }`. A name stays open, as in
    `["N", 3, "H", "W"]`, where the network allows it."""
    stages: tuple[str, ...] = ()
    """Stages that layers' include and exclude rules are asked about, beside the phase TEST."""
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    """What a field of the prototxt means that no known layer has: a fork's setting may change every number."""

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ValueError(f"opset: got {self.opset}, expected {OPSETS[0]} to {OPSETS[-1]}")
        for name, shape in self.shapes.items():
            if not shape or any(dim <= 0 if isinstance(dim, int) else not dim.isidentifier() for dim in shape):
                raise ValueError(f"shapes: got {list(shape)} for {name!r}, expected sizes of at least 1 or names")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaffeWriterParams:
    """Settings of one conversion to Caffe."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of inputs that the model leaves open: `{ x = [1, 3, 224, 224] }`. Caffe knows fixed sizes alone."""
    without: tuple[str, ...] = ()
    """Types of layers that the toolchain behind does not read: `["ReLU6", "Clip"]`. Others take their place where
    there are such, else the nodes that need them are named."""
    floor_pooling: Literal["round_mode", "ceil_mode", "slice"] = "round_mode"
    """How a pooling says that it rounds downwards: `round_mode: FLOOR` as BVLC Caffe since 2018, `ceil_mode: false` as
    OpenCV and many forks, or by a layer Slice behind it, which every Caffe reads."""

    def __post_init__(self) -> None:
        for name, shape in self.shapes.items():
            if any(dim < 1 for dim in shape):
                raise ValueError(f"shapes: got {list(shape)} for {name!r}, expected sizes of at least 1")
