"""Walks the steps in order and proves that each value fits where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sdkpack.documents.pipeline import BatchPolicy, ParamSpec, Step
from sdkpack.errors import PluginBrokenError
from sdkpack.pipeline.batch import padded_width
from sdkpack.pipeline.findings import Findings, Places
from sdkpack.pipeline.nodes import Node, NodePort
from sdkpack.pipeline.params import reference
from sdkpack.pipeline.unify import ANY, Dims, filled, join, mismatch
from sdkpack.plugin.operator import Operator
from sdkpack.types import ValueType

__all__ = ["TypeWalk"]

_BOOL = ValueType(kind="bool")


class TypeWalk:
    """The types of all values so far, and who gives them. What is wrong goes to the findings.

    A value of a step that could not be understood is of type `any`, so that one mistake is told once.
    """

    def __init__(self, findings: Findings, places: Places, params: Mapping[str, ParamSpec]) -> None:
        self._findings = findings
        self._places = places
        self._params = params
        self.values: dict[str, ValueType] = {}
        self._givers: dict[str, str] = {}

    def define(self, value: str, kind: ValueType, giver: str) -> None:
        """Notes a value; `giver` is for people: `step 4 (image.to_tensor)`."""
        self.values[value] = kind
        self._givers[value] = giver

    def step(self, index: int, step: Step, node: Node, operator: Operator | None) -> None:
        """Checks one step and notes its outputs. `operator` is None for a model, and where it could not be made."""
        dims: Dims = {}
        before = len(self._findings)
        fed = {port.name: self._fed(index, step, node, port, dims) for port in node.inputs if port.name in step.inputs}
        complete = all(port.optional or port.name in fed for port in node.inputs)
        outputs = {port.name: filled(port.type, dims) for port in node.outputs}
        # An operator is only asked about inputs that its ports accept.
        if operator is not None and complete and len(self._findings) == before:
            outputs |= self._inferred(index, node, operator, fed)
        self._batch(index, step, node)
        giver = f"step {index + 1} ({node.label})"
        lifted = {name: self._lifted(step, kind) for name, kind in outputs.items()}
        if step.when is not None:
            self._condition(index, step, lifted)
        for port_name, value in step.outputs.items():
            self.define(value, lifted.get(port_name, ANY), giver)

    def missing(self, index: int, step: Step, node: Node) -> None:
        """Reports ports that must be fed and are not."""
        for port in node.inputs:
            if port.name not in step.inputs and not port.optional:
                place = self._places.input(index, port.name)
                self._findings.add(place, f"{node.label} needs {port.name!r}", expected=str(port.type))

    def gives(self, value: str) -> str:
        """`step 4 (image.to_tensor) gives tensor(...)`."""
        return f"{self._givers.get(value, value)} gives {self.values.get(value, ANY)}"

    def _fed(self, index: int, step: Step, node: Node, port: NodePort, dims: Dims) -> ValueType:
        """The type that the port sees at each call."""
        value = step.inputs[port.name]
        kind = self.values.get(value, ANY)
        place = self._places.input(index, port.name)
        if port.name in step.each and kind.kind != "any":
            if kind.item is None:
                self._findings.add(place, f"`each` maps over a list, {self.gives(value)}", hint="drop it from `each`")
                return ANY
            kind = kind.item
        item = _padded(kind, step) if port.name in step.each else kind
        if reason := mismatch(port.type, item, dims):
            wants = f"{node.label} wants {port.type} as {port.name!r}"
            hint = f'to map over the list: each = "{port.name}"' if _is_each_missing(port, kind, dims) else ""
            self._findings.add(place, f"{self.gives(value)}, {wants}: {reason}", hint=hint)
            return ANY
        return item

    def _inferred(
        self, index: int, node: Node, operator: Operator, fed: Mapping[str, ValueType]
    ) -> dict[str, ValueType]:
        assert node.operator is not None
        broken = f"plugin {node.operator.plugin.name!r}: operator {node.label!r}"
        try:
            inferred: dict[str, Any] = dict(operator.infer(fed))
        except ValueError as error:
            self._findings.add(self._places.step(index), f"{node.label} cannot work on these inputs: {error}")
            return dict.fromkeys(node.output_names, ANY)
        except Exception as error:
            raise PluginBrokenError(f"{broken} failed in infer: {type(error).__name__}: {error}") from error
        declared = {port.name: port.type for port in node.outputs}
        for name, kind in inferred.items():
            if name not in declared:
                raise PluginBrokenError(f"{broken} infers the type of {name!r}, which is no output of it")
            if not isinstance(kind, ValueType) or mismatch(declared[name], kind, {}):
                raise PluginBrokenError(f"{broken} infers {kind} for {name!r}, its port says {declared[name]}")
        return inferred

    def _lifted(self, step: Step, kind: ValueType) -> ValueType:
        if step.batch is not None and kind.kind == "tensor" and kind.shape:
            # What comes out of a batch is cut along axis 0 into items again.
            kind = replace(kind, shape=(1, *kind.shape[1:]))
        return ValueType.list_of(kind) if step.each else kind

    def _batch(self, index: int, step: Step, node: Node) -> None:
        policy, place = step.batch, self._places.step(index, "batch")
        if policy is None:
            return
        if node.operator is not None or not step.each:
            self._findings.add(place, "only a model step with `each` can be batched")
            return
        if policy.pad == "none" and (policy.min_width_px or policy.multiple_of > 1):
            self._findings.add(place, "min_width_px and multiple_of need padding", hint='add: pad = "right"')
        joined = {port.type.shape[0] for port in node.inputs if port.name in step.each and port.type.shape}
        for port in (*node.inputs, *node.outputs):
            mapped = port.name in step.each
            if mapped or port in node.outputs:
                reason = _why_no_batch(port, policy, mapped)
            elif port.name in step.inputs and port.type.shape and port.type.shape[0] in joined - {"?"}:
                reason = f"its first axis {port.type.shape[0]} is that of the batch: map it too"
            else:
                continue
            if reason:
                self._findings.add(place, f"{node.label} cannot be batched: {port.name!r} is {port.type}, {reason}")

    def _condition(self, index: int, step: Step, outputs: dict[str, ValueType]) -> None:
        assert step.when is not None
        self._condition_value(index, step)
        place = self._places.step(index, "otherwise")
        if len(step.outputs) != 1:
            self._findings.add(
                self._places.step(index, "when"),
                "a step with a condition gives one value, for which another stands in",
                got=", ".join(step.outputs.values()) or "none",
            )
            return
        (port,) = step.outputs
        instead = step.when.otherwise
        kind = self.values.get(instead, ANY)
        given = outputs.get(port, ANY)
        if reason := mismatch(given, kind, {}):
            self._findings.add(place, f"{self.gives(instead)}, it stands in for {port!r}, {given}: {reason}")
            return
        outputs[port] = join(given, kind)

    def _condition_value(self, index: int, step: Step) -> None:
        assert step.when is not None
        place, name = self._places.step(index, "when"), reference(step.when.value)
        if name:
            spec = self._params.get(name)
            if spec is not None and not isinstance(spec.default, bool):
                self._findings.add(place, f"${name} is no condition", got=repr(spec.default), expected="true or false")
            return
        kind = self.values.get(step.when.value, ANY)
        per_item = ValueType.list_of(_BOOL)
        if mismatch(_BOOL, kind, {}) and (not step.each or mismatch(per_item, kind, {})):
            expected = "bool or list(bool)" if step.each else "bool"
            self._findings.add(place, f"{self.gives(step.when.value)}, which is no condition", expected=expected)


def _padded(kind: ValueType, step: Step) -> ValueType:
    """What becomes of an item's type when its batch is padded: the last axis is that of the widest neighbour."""
    if step.batch is None or step.batch.pad == "none" or kind.kind != "tensor" or not kind.shape:
        return kind
    last = kind.shape[-1]
    # Items of one known width stay together; a symbol says nothing, not even that two items agree.
    width = padded_width(last, step.batch) if isinstance(last, int) else "?"
    return replace(kind, shape=(*kind.shape[:-1], width))


def _why_no_batch(port: NodePort, policy: BatchPolicy, mapped: bool) -> str:
    shape = port.type.shape
    if shape is None:
        return ""
    if not shape:
        return "it has no axis to join items along"
    if mapped and len(shape) < 2 and (policy.pad != "none" or policy.sort_by != "none"):
        return "it has no axis beside that of the batch"
    if isinstance(shape[0], int) and shape[0] != 1:
        return f"its first axis is fixed at {shape[0]}, items have 1"
    if shape[0] == 1 and policy.max > 1:
        return f"its first axis is fixed at 1, `max` is {policy.max}"
    return ""


def _is_each_missing(port: NodePort, kind: ValueType, dims: Dims) -> bool:
    return kind.item is not None and not mismatch(port.type, kind.item, dict(dims))
