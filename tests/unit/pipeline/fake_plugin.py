"""Small operators for the tests of pipelines: a plugin like any other, found under a name that the tests give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdkpack.errors import InputError
from sdkpack.plugin import Lines, OperatorInfo, Port, hookimpl
from sdkpack.types import ValueType

SDKPACK_API = (1, 0)
_HERE = __name__


@dataclass(frozen=True)
class ScaleParams:
    factor: float = 2.0
    low: float = 0.0

    def __post_init__(self) -> None:
        if self.factor <= self.low:
            raise ValueError(f"factor must be above low, got {self.factor} and {self.low}")


@dataclass(frozen=True)
class LabelParams:
    labels: Lines
    prefix: str = ""


@dataclass(frozen=True)
class StripParams:
    height: int = 2


class Plain:
    """An operator whose ports say it all."""

    def infer(self, inputs: Any) -> dict[str, ValueType]:
        return {}


class Read(Plain):
    """Bytes to numbers."""

    def run(self, blob: bytes) -> Any:
        import numpy as np

        if not blob:
            raise InputError("no bytes to read")
        return np.frombuffer(blob, dtype=np.uint8).astype(np.float32)


class Scale:
    def __init__(self, params: ScaleParams) -> None:
        self.factor = params.factor

    def infer(self, inputs: dict[str, ValueType]) -> dict[str, ValueType]:
        if inputs["x"].shape == (13,):
            raise ValueError("13 numbers are too unlucky")
        return {"y": inputs["x"]}

    def run(self, x: Any) -> Any:
        return (x * self.factor).astype(x.dtype)


class Strips(Plain):
    """A number n becomes a strip of width n, filled with n; flags say which are even."""

    def __init__(self, params: StripParams) -> None:
        self.height = params.height

    def run(self, x: Any) -> Any:
        import numpy as np

        strips = [np.full((1, 1, self.height, int(n)), n, dtype=np.float32) for n in x]
        return strips, [int(n) % 2 == 0 for n in x]


class Sum(Plain):
    def run(self, x: Any, bias: Any) -> float:
        return float(x.sum()) + (0.0 if bias is None else float(bias))


class Label(Plain):
    def __init__(self, params: LabelParams) -> None:
        self.params = params

    def run(self, index: int) -> str:
        return self.params.prefix + self.params.labels[index]


class Crash(Plain):
    def run(self, x: Any) -> Any:
        raise KeyError("secret detail\nsecond line")


class Liar(Plain):
    def run(self, x: Any) -> Any:
        return "no number"


class Short(Plain):
    def run(self, x: Any) -> Any:
        return 1.0


class BadInfer(Plain):
    def infer(self, inputs: Any) -> dict[str, ValueType]:
        return {"y": ValueType(kind="string")}

    def run(self, x: Any) -> Any:
        return 1.0


def _row(name: str, load: str, inputs: tuple[Port, ...], outputs: tuple[Port, ...], **more: Any) -> OperatorInfo:
    return OperatorInfo(
        name=name, summary=name, load=f"{_HERE}:{load}", inputs=inputs, outputs=outputs, **more
    )  # fmt: skip


def _port(name: str, kind: str, *, optional: bool = False) -> Port:
    return Port(name=name, type=kind, optional=optional)


@hookimpl
def sdkpack_operators() -> list[OperatorInfo]:
    x, vector = _port("x", "tensor(float32)"), _port("x", "tensor(float32, [N])")
    number = _port("y", "float")
    return [
        _row("t.read", "Read", (_port("blob", "bytes"),), (_port("x", "tensor(float32, [N])"),)),
        _row("t.scale", "Scale", (x,), (_port("y", "tensor(float32)"),), params=ScaleParams),
        _row("t.scale", "Scale", (x,), (_port("y", "tensor(float32)"),), params=ScaleParams, version=2),
        _row(
            "t.strips", "Strips", (vector,),
            (_port("strips", "list(tensor(float32, [1, 1, H, W]))"), _port("even", "list(bool)")), params=StripParams,
        ),
        _row("t.sum", "Sum", (x, _port("bias", "float", optional=True)), (number,)),
        _row("t.label", "Label", (_port("index", "int"),), (_port("text", "string"),), params=LabelParams),
        _row("t.crash", "Crash", (x,), (number,)),
        _row("t.liar", "Liar", (x,), (number,)),
        _row("t.short", "Short", (x,), (number, _port("z", "float"))),
        _row("t.bad_infer", "BadInfer", (x,), (number,)),
        _row("t.ghost", "Ghost", (x,), (number,)),
    ]  # fmt: skip
