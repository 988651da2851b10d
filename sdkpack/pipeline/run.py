"""Runs a checked pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from sdkpack.documents.pipeline import Pipeline, Step
from sdkpack.errors import DocumentError, InputError, Problem, RunError, UsageError
from sdkpack.pipeline.call import Call, ModelCall, ModelStep, OperatorStep
from sdkpack.pipeline.deadline import Deadline
from sdkpack.pipeline.each import length_under_each, run_each
from sdkpack.pipeline.findings import near
from sdkpack.pipeline.nodes import Node
from sdkpack.pipeline.operators import OperatorSource
from sdkpack.pipeline.params import ParamValue, customer_values, reference
from sdkpack.pipeline.values import nonconformity
from sdkpack.types import ValueType

__all__ = ["BoundStep", "CheckedPipeline", "Trace"]

Trace = Callable[[str, str, Any], None]
"""Called with a step's id, a value's name and the value, for each value as it is computed."""

_BOOL: Final = ValueType(kind="bool")
_BOOLS: Final = ValueType.list_of(_BOOL)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundStep:
    """A step and what it calls."""

    number: int
    """From 1, as people count."""
    step: Step
    node: Node
    source: OperatorSource | None
    """None for a model."""

    @property
    def uses(self) -> set[str]:
        """The values that the step reads."""
        when = self.step.when
        return {*self.step.inputs.values(), *((when.value, when.otherwise) if when is not None else ())}


@dataclass(frozen=True, kw_only=True)
class CheckedPipeline:
    """A pipeline that has been proved to fit together; made by `check`. May run in several threads at once."""

    name: str
    pipeline: Pipeline
    inputs: Mapping[str, ValueType]
    outputs: Mapping[str, ValueType]
    steps: tuple[BoundStep, ...]

    @cached_property
    def models(self) -> frozenset[str]:
        """The models that a run needs."""
        return frozenset(bound.step.model for bound in self.steps if bound.step.model is not None)

    def models_until(self, until: str | None = None) -> frozenset[str]:
        """The models that a run up to a value needs."""
        steps = self.steps if until is None else self._needed(until)
        return frozenset(bound.step.model for bound in steps if bound.step.model is not None)

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        params: Mapping[str, Any] = _NOTHING,
        models: Mapping[str, ModelCall],
        trace: Trace | None = None,
        deadline: Deadline | None = None,
        until: str | None = None,
        absorbed: AbstractSet[str] = frozenset(),
    ) -> dict[str, Any]:
        """Computes the outputs.

        Args:
            inputs: by name, complete; arrays are not changed and not kept.
            params: run-time parameters; those left out have their defaults.
            models: how to run each model.
            trace: sees every value as it is computed; what it raises ends the run.
            deadline: looked at between steps and between items.
            until: stops when this value is known, and gives only it.
            absorbed: ids of steps that the models compute themselves: their input passes through, unseen by `trace`.

        Returns:
            Output name -> value, or the value of `until` by its name.

        Raises:
            InputError: inputs or params are not what the pipeline takes, or an operator cannot use their content.
            RunError: a model or operator failed; `where` is the step's id.
            DeadlineError: time was up.
            PluginBrokenError: an operator gave something else than its ports say.
            UsageError: `until` is no value, or one inside of a model that absorbed steps; or `models` lacks one.
        """
        wanted = self._wanted(until)
        steps = self._needed(until)
        self._check_models(models, steps)
        values = self._checked_inputs(inputs)
        chosen = customer_values(self.pipeline.params, params)
        frees = _last_uses(self.steps, set(wanted.values()))
        inside = self._inside(steps, absorbed)
        if until in inside:
            raise UsageError(f"value {until!r} is computed inside of a model here, together with the steps "
                             f"{', '.join(sorted(absorbed))}", hint="choose another target to see it")  # fmt: skip
        for bound in steps:
            if deadline is not None:
                deadline.check(f"step {bound.step.id!r}")
            if bound.step.id in absorbed:
                (passed,) = bound.step.inputs.values()
                outputs = dict.fromkeys(bound.step.outputs, values[passed])
            else:
                call = self._call(bound, models, chosen, absorbed=bool(absorbed & self._neighbours(bound)))
                outputs = _Execution(bound, values, chosen, call, deadline).outputs()
            for port, name in bound.step.outputs.items():
                values[name] = outputs[port]
                if trace is not None and name not in inside:
                    trace(bound.step.id, name, outputs[port])
            del outputs
            for name in frees[bound.number - 1]:
                values.pop(name, None)
        return {name: values[value] for name, value in wanted.items()}

    def _inside(self, steps: tuple[BoundStep, ...], absorbed: AbstractSet[str]) -> set[str]:
        """Values that exist only inside of a model: between it and the steps that it absorbed."""
        inside: set[str] = set()
        for bound in (bound for bound in steps if bound.step.id in absorbed or bound.step.model is not None):
            for value in bound.step.outputs.values():
                takers = [other.step for other in self.steps if value in other.uses]
                before = bound.step.id in absorbed and any(t.model is not None or t.id in absorbed for t in takers)
                if before or any(taker.id in absorbed for taker in takers):
                    inside.add(value)
        return inside

    def _neighbours(self, bound: BoundStep) -> set[str]:
        """Ids of the steps that feed a step or take from it."""
        given, taken = set(bound.step.outputs.values()), bound.uses
        return {
            other.step.id
            for other in self.steps
            if given & other.uses or taken & set(other.step.outputs.values())
        }  # fmt: skip

    def _wanted(self, until: str | None) -> dict[str, str]:
        if until is None:
            return {name: output.value for name, output in self.pipeline.outputs.items()}
        known = [*self.pipeline.inputs, *(value for bound in self.steps for value in bound.step.outputs.values())]
        if until not in known:
            raise UsageError(
                f"pipeline {self.name!r} has no value {until!r}",
                hint=near(until, known) or f"its values are {', '.join(known)}",
            )
        return {until: until}

    def _needed(self, until: str | None) -> tuple[BoundStep, ...]:
        """The steps to run: all, or those up to the one that gives `until`."""
        if until is None:
            return self.steps
        upto = [bound.number for bound in self.steps if until in bound.step.outputs.values()]
        return self.steps[: upto[0]] if upto else ()

    def _check_models(self, models: Mapping[str, ModelCall], steps: tuple[BoundStep, ...]) -> None:
        if lacking := sorted({bound.step.model for bound in steps if bound.step.model is not None} - set(models)):
            raise UsageError(f"pipeline {self.name!r} cannot run without the models {', '.join(lacking)}")

    def _checked_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = tuple(self.inputs)
        problems = [
            Problem(path=name, message="no such input", expected=f"one of {', '.join(names)}", hint=near(name, names))
            for name in inputs
            if name not in self.inputs
        ]
        sizes: dict[str, int] = {}
        for name, kind in self.inputs.items():
            if name not in inputs:
                problems.append(Problem(path=name, message="missing", expected=str(kind)))
            elif reason := nonconformity(kind, inputs[name], sizes):
                problems.append(Problem(path=name, message=reason))
        if problems:
            raise InputError(f"these inputs do not fit pipeline {self.name!r}", problems=problems)
        return dict(inputs)

    def _call(
        self,
        bound: BoundStep,
        models: Mapping[str, ModelCall],
        chosen: Mapping[str, ParamValue],
        *,
        absorbed: bool = False,
    ) -> Call:
        step = bound.step
        direct = frozenset(port for port, value in step.inputs.items() if value in self.inputs)
        if step.model is not None:
            return ModelStep(
                step_id=step.id, number=bound.number, node=bound.node, model=models[step.model], from_inputs=direct,
                absorbed=absorbed,
            )  # fmt: skip
        assert bound.source is not None
        try:
            operator = bound.source.make(chosen)
        except DocumentError as error:
            raise InputError(
                f"step {bound.number} ({bound.node.label}) refuses these run-time parameters",
                where=step.id,
                problems=error.problems,
            ) from error
        return OperatorStep(
            step_id=step.id, number=bound.number, node=bound.node, operator=operator, from_inputs=direct
        )


@dataclass(frozen=True, slots=True)
class _Execution:
    """One step of one run."""

    bound: BoundStep
    values: Mapping[str, Any]
    params: Mapping[str, ParamValue]
    call: Call
    deadline: Deadline | None

    def outputs(self) -> dict[str, Any]:
        """The step's outputs by port, those of the condition's other branch included."""
        step = self.bound.step
        inputs = {port: self.values[value] for port, value in step.inputs.items()}
        condition = self._condition()
        if condition is False:
            return self._instead()
        if not step.each:
            assert isinstance(condition, bool)
            return self.call(inputs)
        return self._mapped(inputs, condition)

    def _condition(self) -> bool | list[bool]:
        when = self.bound.step.when
        if when is None:
            return True
        name = reference(when.value)
        value = self.params[name] if name else self.values[when.value]
        kind = _BOOLS if self.bound.step.each and isinstance(value, list) else _BOOL
        # Proved before, unless an operator's output is of type `any`.
        if reason := nonconformity(kind, value, {}):
            raise RunError(f"the condition {when.value!r} cannot be used: {reason}", where=self.bound.step.id)
        return [bool(item) for item in value] if isinstance(value, list) else bool(value)

    def _instead(self) -> dict[str, Any]:
        step = self.bound.step
        assert step.when is not None
        return dict.fromkeys(step.outputs, self.values[step.when.otherwise])

    def _mapped(self, inputs: Mapping[str, Any], condition: bool | list[bool]) -> dict[str, Any]:
        step = self.bound.step
        lists: dict[str, Any] = {port: inputs[port] for port in step.each}
        if isinstance(condition, list):
            assert step.when is not None
            lists |= {"when": condition, "otherwise": self.values[step.when.otherwise]}
        count = length_under_each(step, lists)
        chosen = [index for index in range(count) if not isinstance(condition, list) or condition[index]]
        results = run_each(self.call, step, inputs, chosen, self.deadline)
        instead = lists.get("otherwise", ())
        return {
            port: [results[index][port] if index in results else instead[index] for index in range(count)]
            for port in step.outputs
        }


def _last_uses(steps: tuple[BoundStep, ...], kept: set[str]) -> list[list[str]]:
    """Per step, the values that nothing needs after it; large arrays must not outlive their use."""
    last: dict[str, int] = {}
    for index, bound in enumerate(steps):
        for name in (*bound.step.outputs.values(), *bound.uses):
            last[name] = index
    frees: list[list[str]] = [[] for _ in steps]
    for name, index in last.items():
        if name not in kept:
            frees[index].append(name)
    return frees
