"""Conformance of operators."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
import pytest

from sdkpack.errors import SdkpackError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, load_class
from sdkpack.pipeline.values import nonconformity
from sdkpack.plugin.info import OperatorInfo
from sdkpack.plugin.operator import Operator
from sdkpack.testing.base import Conformance
from sdkpack.types import ValueType

__all__ = ["OperatorConformance"]

_KINDS = {
    "image": np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3),
    "string": "text",
    "int": 3,
    "float": 0.5,
    "bool": True,
    "quad": np.array([[1, 1], [5, 1], [5, 4], [1, 4]], np.float32),
    "bytes": b"bytes",
}
_OPEN_SIZE = 4


class OperatorConformance(Conformance):
    """Subclass it, and name the operator; give `examples` where values made from the ports' types are none it can use.

    Attributes:
        operator: its name.
        version: the newest where None.
    """

    operator: ClassVar[str]
    version: ClassVar[int | None] = None

    def examples(self) -> Sequence[tuple[Any, ...]]:
        """Inputs in the order of the ports, one tuple a run."""
        return [tuple(self._made(ValueType.parse(port.type)) for port in self.row().info.inputs)]

    def row(self) -> Registered[OperatorInfo]:
        return self.registry.operator(self.operator, self.version)

    def made(self) -> Operator:
        """The operator with its params."""
        schema = ParamSchema(self.row().info)
        params = schema.instance(self.params)
        kind = load_class(self.row(), self.row().info.load)
        result: Operator = kind() if params is None else kind(params)
        return result

    def _made(self, kind: ValueType) -> Any:
        if kind.kind == "tensor" and kind.dtype:
            shape = [_OPEN_SIZE if isinstance(dim, str) else dim for dim in kind.shape or (_OPEN_SIZE,)]
            return np.linspace(0, 1, int(np.prod(shape))).reshape(shape).astype(kind.dtype)
        if kind.kind == "list" and kind.item is not None:
            return [self._made(kind.item), self._made(kind.item)]
        if kind.kind == "record":
            return {name: self._made(item) for name, item in kind.fields}
        if kind.kind not in _KINDS:
            pytest.skip(f"no value of type {kind} can be made: override examples()")
        return copy.deepcopy(_KINDS[kind.kind])

    def _runs(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        operator = self.made()
        several = len(self.row().info.outputs) != 1
        for inputs in self.examples():
            result = operator.run(*inputs)
            yield inputs, result if several else (result,)

    def test_it_keeps_its_contract(self) -> None:
        assert isinstance(self.made(), Operator)
        info = self.row().info
        assert info.outputs, "an operator gives something"
        assert isinstance(info.version, int)

    def test_outputs_are_of_the_types_of_its_ports(self) -> None:
        ports = self.row().info.outputs
        for inputs, outputs in self._runs():
            assert isinstance(outputs, tuple), "several outputs are a tuple"
            assert len(outputs) == len(ports)
            types = self.made().infer(self._types(inputs))
            for port, value in zip(ports, outputs, strict=True):
                for kind in (ValueType.parse(port.type), types.get(port.name)):
                    assert kind is None or not nonconformity(kind, value, {}), f"{port.name}: {value!r} is no {kind}"

    def _types(self, inputs: tuple[Any, ...]) -> Mapping[str, ValueType]:
        ports = self.row().info.inputs
        return {port.name: ValueType.parse(port.type) for port, value in zip(ports, inputs, strict=True)
                if value is not None}  # fmt: skip

    def test_same_inputs_give_the_same(self) -> None:
        if not self.row().info.deterministic:
            pytest.skip("the descriptor says that it is not deterministic")
        for (_, first), (_, second) in zip(self._runs(), self._runs(), strict=True):
            assert _same(first, second)

    def test_inputs_are_left_alone(self) -> None:
        before = copy.deepcopy(self.examples())
        for (inputs, _), expected in zip(self._runs(), before, strict=True):
            assert _same(inputs, expected), "the operator changed what it was given"

    def test_it_runs_in_several_threads(self) -> None:
        operator = self.made()
        for inputs in self.examples():
            expected = operator.run(*inputs)
            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(lambda _, given=inputs: operator.run(*given), range(8)))
            assert all(_same(result, expected) for result in results)

    def test_bad_content_is_a_documented_error(self) -> None:
        """Nothing, garbage and empty arrays in the place of each input: an answer or a stated error, never a crash."""
        operator = self.made()
        for inputs in self.examples():
            for number, value in enumerate(inputs):
                for bad in _spoilt(value):
                    spoilt = (*inputs[:number], bad, *inputs[number + 1 :])
                    with suppress(SdkpackError):
                        try:
                            with np.errstate(all="ignore"):
                                operator.run(*spoilt)
                        except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError) as error:
                            pytest.fail(f"{type(error).__name__}: {error}, for {bad!r}: expected an InputError")


def _spoilt(value: Any) -> list[Any]:
    """Values of the same type that an upstream step may well give."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return [np.full_like(value, np.nan), np.full_like(value, np.inf), np.zeros_like(value)]
    if isinstance(value, np.ndarray):
        return [np.zeros_like(value)]
    if isinstance(value, bytes):
        return [b"", b"\0" * 64, value[: len(value) // 2]]
    if isinstance(value, str):
        return [""]
    if isinstance(value, list):
        return [[]]
    return []


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b) or (a != a and b != b)
