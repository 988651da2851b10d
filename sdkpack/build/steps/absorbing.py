"""What a compiler may take over of a pipeline: the operators right before and right after a model.

A step may be absorbed where nothing else sees what goes in between: an operator with one input and one output, outside
of any list or condition, that no customer can set and that reads no file, in the only place where the model is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sdkpack.build.steps.samples import Arrays
from sdkpack.documents.pipeline import Pipeline, Step
from sdkpack.errors import StepError
from sdkpack.pipeline.operators import asset_path
from sdkpack.pipeline.params import references
from sdkpack.plugin.operator import Operator
from sdkpack.plugin.runtime import PipelineStep

if TYPE_CHECKING:
    from sdkpack.pipeline.run import BoundStep, CheckedPipeline

__all__ = ["NOTHING", "Absorbable", "absorbable_steps"]


@dataclass(frozen=True, slots=True)
class Absorbable:
    """The chains of steps around one model, in the order in which they run."""

    before: tuple[BoundStep, ...] = ()
    after: tuple[BoundStep, ...] = ()

    def offered(self) -> tuple[tuple[PipelineStep, ...], tuple[PipelineStep, ...]]:
        """The chains as a compiler gets them."""
        return tuple(map(_offer, self.before)), tuple(map(_offer, self.after))

    def chosen(self, absorbed: tuple[str, ...]) -> Self | None:
        """The chains of these step ids; None where they are not the ends next to the model."""
        before = tuple(bound for bound in self.before if bound.step.id in absorbed)
        after = tuple(bound for bound in self.after if bound.step.id in absorbed)
        near = before == self.before[len(self.before) - len(before) :] and after == self.after[: len(after)]
        known = {bound.step.id for bound in (*before, *after)}
        whole = known == set(absorbed) and len(absorbed) == len(known)
        return type(self)(before, after) if near and whole else None

    def as_json(self) -> dict[str, Any]:
        """For a step's key."""
        chains = {"before": self.before, "after": self.after}
        return {name: [[b.step.id, b.step.op, b.step.params] for b in chain] for name, chain in chains.items()}

    def inputs_of_model(self, inputs: Arrays) -> dict[str, Any]:
        """What the model itself is fed where the segment is fed `inputs`."""
        return _through(self.before, inputs)

    def outputs_of_segment(self, outputs: Arrays) -> dict[str, Any]:
        return _through(self.after, outputs)


NOTHING = Absorbable()


def absorbable_steps(model: str, pipelines: Mapping[str, CheckedPipeline]) -> Absorbable:
    """The steps around `model` that a compiler may take over; none where several steps run the model."""
    uses = [(checked, bound) for checked in pipelines.values() for bound in checked.steps if bound.step.model == model]
    if len(uses) != 1:
        return NOTHING
    checked, bound = uses[0]
    if not _plain(bound.step):
        return NOTHING
    before = tuple(reversed(list(_upwards(checked, bound))))
    return Absorbable(before, tuple(_downwards(checked, bound)))


def _upwards(checked: CheckedPipeline, bound: BoundStep) -> Iterator[BoundStep]:
    while len(bound.step.inputs) == 1:
        (value,) = bound.step.inputs.values()
        makers = [other for other in checked.steps if value in other.step.outputs.values()]
        if len(makers) != 1 or not _absorbable(makers[0]) or not _seen_once(checked, value):
            return
        bound = makers[0]
        yield bound


def _downwards(checked: CheckedPipeline, bound: BoundStep) -> Iterator[BoundStep]:
    while len(bound.step.outputs) == 1:
        (value,) = bound.step.outputs.values()
        takers = [other for other in checked.steps if value in other.uses]
        if len(takers) != 1 or not _absorbable(takers[0]) or not _seen_once(checked, value):
            return
        bound = takers[0]
        yield bound


def _absorbable(bound: BoundStep) -> bool:
    step = bound.step
    simple = step.op is not None and len(step.inputs) == 1 and len(step.outputs) == 1 and _plain(step)
    fixed = not references(step.params) and not any(asset_path(value) for value in step.params.values())
    return simple and fixed and len(bound.node.outputs) == 1


def _plain(step: Step) -> bool:
    return not step.each and step.when is None and step.batch is None


def _seen_once(checked: CheckedPipeline, value: str) -> bool:
    pipeline: Pipeline = checked.pipeline
    takers = [bound for bound in checked.steps if value in bound.uses]
    return len(takers) == 1 and all(output.value != value for output in pipeline.outputs.values())


def _offer(bound: BoundStep) -> PipelineStep:
    return PipelineStep(id=bound.step.id, op=bound.step.op or "", params=dict(bound.step.params))


def _through(chain: tuple[BoundStep, ...], values: Arrays) -> dict[str, Any]:
    if not chain:
        return dict(values)
    ((name, value),) = values.items()
    for bound in chain:
        assert bound.source is not None
        operator: Operator = bound.source.make({})
        ports = [port.name for port in bound.node.inputs]
        fed = set(bound.step.inputs)
        try:
            value = operator.run(*(value if port in fed else None for port in ports))
        except Exception as error:
            raise StepError(
                f"absorbed step {bound.step.id!r} cannot be computed for a comparison: {error}",
                hint="the variant's input must be of the type that this step takes",
            ) from error
    return {name: value}
