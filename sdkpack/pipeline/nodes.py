"""What a step calls: an operator or a model, seen only by its ports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sdkpack.errors import PluginBrokenError
from sdkpack.host.registry import Registered
from sdkpack.plugin.info import OperatorInfo, Port
from sdkpack.types import TensorSpec, ValueType

__all__ = ["ModelSignature", "Node", "NodePort", "model_node", "operator_node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSignature:
    """The tensors that a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePort:
    name: str
    type: ValueType
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator or a model."""

    label: str
    """For people: `image.resize`, `model det`."""
    inputs: tuple[NodePort, ...]
    outputs: tuple[NodePort, ...]
    operator: Registered[OperatorInfo] | None = None
    """None for a model."""

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)


def model_node(name: str, signature: ModelSignature) -> Node:
    """The model of this name."""
    return Node(
        label=f"model {name}",
        inputs=tuple(NodePort(name=spec.name, type=spec.type) for spec in signature.inputs),
        outputs=tuple(NodePort(name=spec.name, type=spec.type) for spec in signature.outputs),
    )


def operator_node(operator: Registered[OperatorInfo]) -> Node:
    """The operator of this descriptor.

    Raises:
        PluginBrokenError: the type of a port is none.
    """
    info = operator.info
    return Node(
        label=info.name, inputs=_ports(operator, info.inputs), outputs=_ports(operator, info.outputs), operator=operator
    )


def _ports(operator: Registered[OperatorInfo], ports: Iterable[Port]) -> tuple[NodePort, ...]:
    try:
        return tuple(
            NodePort(name=port.name, type=ValueType.parse(port.type), optional=port.optional) for port in ports
        )
    except ValueError as error:
        raise PluginBrokenError(
            f"plugin {operator.plugin.name!r}: a port of {operator.info.name!r} has no type: {error}"
        ) from error
