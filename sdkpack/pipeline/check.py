"""Proves that a pipeline in its normal form fits together: names, order, parameters, types, shapes.

The form may come out of a bundle whose author nobody trusts yet: everything is looked at again, in time and memory
that grow no faster than the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sdkpack.documents.pipeline import Pipeline, Step
from sdkpack.errors import LimitError, PluginMissingError, Problem
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registry
from sdkpack.pipeline.findings import Findings, ManifestPlaces, near
from sdkpack.pipeline.infer import TypeWalk
from sdkpack.pipeline.nodes import ModelSignature, Node, model_node, operator_node
from sdkpack.pipeline.operators import AssetReader, OperatorSource, read_assets, try_out
from sdkpack.pipeline.order import why_too_early
from sdkpack.pipeline.params import reference, references
from sdkpack.pipeline.run import BoundStep, CheckedPipeline
from sdkpack.pipeline.unify import mismatch
from sdkpack.types import ValueType

__all__ = ["check"]

_MOST_STEPS: Final = 2000
"""Each step loads a class and builds a schema: a manifest of a million steps would keep the reader busy for hours."""


def check(
    name: str,
    pipeline: Pipeline,
    *,
    registry: Registry,
    models: Mapping[str, ModelSignature],
    assets: AssetReader,
) -> CheckedPipeline:
    """Checks everything that can be known before a run, and makes the operators.

    Raises:
        PipelineError: `problems` holds everything that is wrong.
        PluginMissingError: nothing is wrong, but operators are not installed; `problems` names them.
        PluginBrokenError: an operator breaks its contract.
        LimitError: it has more steps than any pipeline needs.
    """
    if len(pipeline.steps) > _MOST_STEPS:
        raise LimitError(f"pipeline {name!r} has {len(pipeline.steps)} steps, at most {_MOST_STEPS} are read")
    return _Checker(name, pipeline, registry, models, assets).checked()


class _Checker:
    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        registry: Registry,
        models: Mapping[str, ModelSignature],
        assets: AssetReader,
    ) -> None:
        self._name, self._pipeline = name, pipeline
        self._registry, self._models, self._assets = registry, models, assets
        self._findings = Findings(name)
        self._places = ManifestPlaces(name)
        self._missing: list[Problem] = []
        self._schemas: dict[str, ParamSchema] = {}
        self._defined_at = self._definitions()
        self._uses = [_uses(step) for step in pipeline.steps]
        self._walk = TypeWalk(self._findings, self._places, pipeline.params)

    def checked(self) -> CheckedPipeline:
        inputs = self._inputs()
        known = set(inputs)
        steps: list[BoundStep] = []
        for index, step in enumerate(self._pipeline.steps):
            self._used_values(index, step, known)
            node = self._node(index, step)
            if node is not None:
                steps.append(self._step(index, step, node))
            known |= set(step.outputs.values())
        self._unused()
        outputs = self._outputs()
        self._findings.raise_any()
        if self._missing:
            raise PluginMissingError(
                f"pipeline {self._name!r} needs operators that no plugin in use has", problems=self._missing
            )
        return CheckedPipeline(
            name=self._name, pipeline=self._pipeline, inputs=inputs, outputs=outputs, steps=tuple(steps)
        )  # fmt: skip

    # Names ------------------------------------------------------------------------------------------------------
    def _definitions(self) -> dict[str, int]:
        """Where each value is defined; reports what is defined twice."""
        defined_at: dict[str, int] = {}
        ids: dict[str, int] = {}
        for index, step in enumerate(self._pipeline.steps):
            if step.id in ids:
                self._findings.add(self._places.step(index, "id"), f"{step.id!r} is step {ids[step.id] + 1} already")
            ids.setdefault(step.id, index)
            for port, value in step.outputs.items():
                place = self._places.step(index, f"outputs.{port}")
                if value in self._pipeline.inputs:
                    self._findings.add(place, f"{value!r} is an input of the pipeline already")
                elif value in defined_at:
                    self._findings.add(place, f"{value!r} is defined by step {defined_at[value] + 1} already")
                else:
                    defined_at[value] = index
        return defined_at

    def _used_values(self, index: int, step: Step, known: set[str]) -> None:
        for port, value in step.inputs.items():
            self._used_value(index, value, self._places.input(index, port), known)
        if step.when is not None:
            if not reference(step.when.value):
                self._used_value(index, step.when.value, self._places.step(index, "when"), known)
            self._used_value(index, step.when.otherwise, self._places.step(index, "otherwise"), known)
        for name in _references(step):
            if name not in self._pipeline.params:
                self._findings.add(
                    self._places.step(index), f"${name} is not declared", hint=near(name, tuple(self._pipeline.params))
                )

    def _used_value(self, index: int, value: str, place: str, known: set[str]) -> None:
        if value in known:
            return
        if value in self._defined_at:
            self._findings.add(place, why_too_early(index, value, self._defined_at, self._uses))
        else:
            self._findings.add(place, f"no value is called {value!r}", hint=near(value, sorted(known)))

    def _unused(self) -> None:
        outputs = {output.value for output in self._pipeline.outputs.values()}
        used = outputs.union(*self._uses)
        for name in self._pipeline.inputs:
            if name not in used:
                self._findings.add(self._places.pipeline(f"inputs.{name}"), "no step uses it")
        for value, index in self._defined_at.items():
            if value not in used:
                self._findings.add(self._places.step(index, "outputs"), f"nothing uses {value!r}")
        named: set[str] = set()
        for index, step in enumerate(self._pipeline.steps):
            named |= _references(step)
            if not step.outputs:
                self._findings.add(self._places.step(index), "nothing uses what this step gives")
        for name in self._pipeline.params:
            if name not in named:
                self._findings.add(self._places.pipeline(f"params.{name}"), "no step uses it")

    # Steps ------------------------------------------------------------------------------------------------------
    def _node(self, index: int, step: Step) -> Node | None:
        if step.model is not None:
            signature = self._models.get(step.model)
            if signature is not None:
                return model_node(step.model, signature)
            hint = near(step.model, tuple(self._models))
            self._findings.add(self._places.step(index, "model"), f"no model is called {step.model!r}", hint=hint)
            return None
        assert step.op is not None
        name, _, version = step.op.partition("/")
        try:
            return operator_node(self._registry.operator(name, int(version)))
        except PluginMissingError as error:
            self._missing.append(Problem(path=self._places.step(index, "op"), message=error.message, hint=error.hint))
            return None

    def _step(self, index: int, step: Step, node: Node) -> BoundStep:
        self._ports(index, "inputs", step.inputs, node.input_names, node)
        self._ports(index, "outputs", step.outputs, node.output_names, node)
        for port in step.each:
            if port not in step.inputs or step.each.count(port) > 1:
                message = f"{port!r} is mapped twice" if port in step.inputs else f"nothing feeds port {port!r}"
                self._findings.add(self._places.step(index, "each"), message)
        source, operator = None, None
        if node.operator is not None:
            assert step.op is not None
            schema = self._schemas.setdefault(step.op, ParamSchema(node.operator.info))
            before, place = len(self._findings), self._places.step(index, "params")
            contents = read_assets(schema, step.params, self._assets, self._findings, place)
            source = OperatorSource(node.operator, schema, step.params, contents)
            if len(self._findings) == before:
                specs = self._pipeline.params
                operator = try_out(source, specs, self._findings, place, self._places.pipeline("params"))
        elif step.params:
            self._findings.add(self._places.step(index, "params"), "a model takes no parameters")
        self._walk.missing(index, step, node)
        self._walk.step(index, step, node, operator)
        return BoundStep(number=index + 1, step=step, node=node, source=source)

    def _ports(self, index: int, part: str, written: Iterable[str], ports: tuple[str, ...], node: Node) -> None:
        for port in written:
            if port not in ports:
                self._findings.add(
                    self._places.step(index, f"{part}.{port}"),
                    f"{node.label} has no {part.removesuffix('s')} {port!r}",
                    expected=f"one of {', '.join(ports)}" if ports else "none",
                    hint=near(port, ports),
                )

    # Ends -------------------------------------------------------------------------------------------------------
    def _inputs(self) -> dict[str, ValueType]:
        inputs: dict[str, ValueType] = {}
        for name, text in self._pipeline.inputs.items():
            inputs[name] = self._type(text, self._places.pipeline(f"inputs.{name}"))
            self._walk.define(name, inputs[name], f"input {name!r}")
        return inputs

    def _outputs(self) -> dict[str, ValueType]:
        outputs: dict[str, ValueType] = {}
        for name, output in self._pipeline.outputs.items():
            place = self._places.pipeline(f"outputs.{name}")
            outputs[name] = self._type(output.type, f"{place}.type")
            if output.value not in self._defined_at and output.value not in self._pipeline.inputs:
                hint = near(output.value, sorted(self._defined_at))
                self._findings.add(f"{place}.value", f"no value is called {output.value!r}", hint=hint)
            elif (kind := self._walk.values.get(output.value)) and (reason := mismatch(outputs[name], kind, {})):
                self._findings.add(f"{place}.type", f"{self._walk.gives(output.value)}: {reason}", got=output.type)
        return outputs

    def _type(self, text: str, place: str) -> ValueType:
        try:
            return ValueType.parse(text)
        except ValueError as error:
            self._findings.add(place, str(error))
            return ValueType(kind="any")


def _uses(step: Step) -> set[str]:
    condition = {step.when.value, step.when.otherwise} if step.when is not None else set()
    return {*step.inputs.values(), *condition}


def _references(step: Step) -> frozenset[str]:
    name = reference(step.when.value) if step.when is not None else ""
    return references(step.params) | ({name} if name else set())
