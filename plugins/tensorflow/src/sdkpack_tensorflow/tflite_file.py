"""TFLite files as flatbuffers: what they use, found before anything is built of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, Problem

__all__ = ["Operator", "check_operators", "read_operators"]

_KNOWN_CUSTOM: Final = frozenset({"TFLite_Detection_PostProcess"})
_PLACEHOLDER: Final = 127
_FLOAT32: Final = 0
_INT8: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of the main graph, by the names of its tensors."""

    kind: str
    """As TFLite's schema has it: `CONV_2D`; for others' operators their own name."""
    custom: bool
    inputs: tuple[str, ...]
    """Without the absent ones."""
    outputs: tuple[str, ...]
    activation: bool
    """Whether a ReLU or the like is part of it."""
    hybrid: bool
    """Takes float activations and 8-bit weights: TFLite rounds the activations while it runs."""


def read_operators(path: Path) -> list[Operator]:
    """The operators of the main graph in their order, others' operators of all graphs among them.

    Everything that the file refers to is looked at on the way, in Python, where a reference that leads out of the file
    raises: TensorFlow's interpreter follows it and crashes.

    Raises:
        ValueError: the file is damaged; so do IndexError, struct.error and others.
    """
    from tf2onnx.tflite.Model import Model

    content = bytearray(path.read_bytes())
    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin as a TFLite file does")
    limit = len(content)
    model = Model.GetRootAsModel(content, 0)
    kinds = [_kind(model.OperatorCodes(index)) for index in range(_count(model.OperatorCodesLength(), limit))]
    buffers = _count(model.BuffersLength(), limit)
    for index in range(buffers):
        model.Buffers(index).DataAsNumpy()
    found = []
    for number in range(_count(model.SubgraphsLength(), limit)):
        graph = model.Subgraphs(number)
        tensors = _count(graph.TensorsLength(), limit)
        _check_tensors(graph, tensors, buffers, limit)
        for index in range(_count(graph.OperatorsLength(), limit)):
            operator = _operator(graph, graph.Operators(index), kinds, tensors)
            if number == 0 or operator.custom:
                found.append(operator)
    if not found:
        raise ValueError("it holds no operators")
    return found


def _kind(code: Any) -> tuple[str, bool]:
    from tf2onnx.tflite_utils import lookup_enum

    number = code.DeprecatedBuiltinCode()
    kind = lookup_enum(code.BuiltinCode() if number == _PLACEHOLDER else number, "BuiltinOperator")
    return (code.CustomCode().decode(), True) if kind == "CUSTOM" else (kind, False)


def _count(number: int, limit: int) -> int:
    """A length that the file could hold: four bytes an entry."""
    if not 0 <= number <= limit // 4:
        raise ValueError(f"a length of {number} in a file of {limit} bytes")
    return number


def _check_tensors(graph: Any, tensors: int, buffers: int, limit: int) -> None:
    for index in range(tensors):
        tensor = graph.Tensors(index)
        tensor.Name().decode()
        _count(tensor.ShapeLength(), limit)
        tensor.ShapeAsNumpy()
        if not 0 <= tensor.Buffer() < buffers:
            raise IndexError(f"tensor {index} has a buffer that there is not")
    ends = [graph.Inputs(index) for index in range(_count(graph.InputsLength(), limit))]
    ends += [graph.Outputs(index) for index in range(_count(graph.OutputsLength(), limit))]
    if any(not 0 <= end < tensors for end in ends):
        raise IndexError("an input or output is a tensor that there is not")


def _operator(graph: Any, operator: Any, kinds: list[tuple[str, bool]], tensors: int) -> Operator:
    kind, custom = kinds[operator.OpcodeIndex()]
    indices = [operator.Inputs(i) for i in range(_count(operator.InputsLength(), 4 * tensors))]
    indices += [operator.Outputs(i) for i in range(_count(operator.OutputsLength(), 4 * tensors))]
    if any(not -1 <= index < tensors for index in indices):
        raise IndexError(f"an operator {kind} takes or makes a tensor that there is not")
    inputs = [graph.Tensors(operator.Inputs(i)) for i in range(operator.InputsLength()) if operator.Inputs(i) >= 0]
    outputs = [graph.Tensors(operator.Outputs(i)) for i in range(operator.OutputsLength()) if operator.Outputs(i) >= 0]
    hybrid = (
        kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        and inputs[0].Type() == _FLOAT32
        and inputs[1].Type() == _INT8
    )
    options = _options(operator)
    return Operator(
        kind=kind,
        custom=custom,
        inputs=tuple(tensor.Name().decode() for tensor in inputs),
        outputs=tuple(tensor.Name().decode() for tensor in outputs),
        activation=bool(getattr(options, "FusedActivationFunction", lambda: 0)()),
        hybrid=hybrid,
    )


def _options(operator: Any) -> Any:
    from tf2onnx.tflite_utils import get_options_class, lookup_enum

    kind = get_options_class(lookup_enum(operator.BuiltinOptionsType(), "BuiltinOptions"))
    if kind is None or operator.BuiltinOptions() is None:
        return None
    options = kind()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return options


def check_operators(operators: list[Operator], what: str) -> None:
    """Refuses operators of others, all at once.

    Raises:
        ModelError: there are such.
    """
    found = dict(_custom(operators))
    if found:
        raise ModelError(
            f"{what} uses custom operators: {', '.join(sorted(found))}",
            hint="they are code that the file does not hold; convert the network without them",
            problems=[Problem(path=kind, message=f"makes {tensor!r}") for kind, tensor in sorted(found.items())],
        )


def _custom(operators: list[Operator]) -> Iterator[tuple[str, str]]:
    for operator in operators:
        if operator.custom and operator.kind not in _KNOWN_CUSTOM and not operator.kind.startswith("Flex"):
            yield operator.kind, operator.outputs[0] if operator.outputs else ""
