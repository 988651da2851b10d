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

    The file has passed the interpreter's verifier; a flatbuffer that has not could lead anywhere.
    """
    from tf2onnx.tflite.Model import Model
    from tf2onnx.tflite_utils import lookup_enum

    model = Model.GetRootAsModel(bytearray(path.read_bytes()), 0)
    kinds = []
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        number = code.DeprecatedBuiltinCode()
        kind = lookup_enum(code.BuiltinCode() if number == _PLACEHOLDER else number, "BuiltinOperator")
        kinds.append((code.CustomCode().decode(), True) if kind == "CUSTOM" else (kind, False))
    found = []
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.OperatorsLength()):
            operator = _operator(graph, graph.Operators(index), kinds)
            if number == 0 or operator.custom:
                found.append(operator)
    return found


def _operator(graph: Any, operator: Any, kinds: list[tuple[str, bool]]) -> Operator:
    kind, custom = kinds[operator.OpcodeIndex()]
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
