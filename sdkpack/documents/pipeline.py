"""Pipeline: a typed dataflow graph over models and operators, with every choice made.

A recipe's pipeline leaves things out (chaining, names, versions); this form, which stands in the manifest, does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from sdkpack.documents import patterns
from sdkpack.documents.base import Json, Name, Part
from sdkpack.documents.findings import several
from sdkpack.errors import Problem

RESERVED_INPUTS: Final = frozenset({"deadline_s", "params", "trace", "until"})
"""What `Session.run` takes beside a pipeline's inputs."""

__all__ = ["BatchPolicy", "Condition", "ParamSpec", "Pipeline", "PipelineOutput", "Step", "TypeText"]


TypeText = Annotated[str, Field(max_length=512)]
"""The text form of a `sdkpack.types.ValueType`; `pipeline.check` parses it."""


class ParamSpec(Part):
    """What a customer may set at run time, and between which bounds; everything else is fixed."""

    default: bool | int | float | str
    min: float | int | None = None
    max: float | int | None = None
    choices: tuple[str, ...] | None = None
    summary: str | None = None

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> ParamSpec:
        number = isinstance(self.default, int | float) and not isinstance(self.default, bool)
        if (self.min is not None or self.max is not None) and not number:
            raise ValueError("min and max need a number as default")
        if isinstance(self.default, int | float) and number:
            low = self.min if self.min is not None else self.default
            high = self.max if self.max is not None else self.default
            if not low <= self.default <= high:
                raise ValueError(f"default {self.default} is not between min {self.min} and max {self.max}")
        if self.choices is not None and self.default not in self.choices:
            raise ValueError(f"default {self.default!r} is none of the choices {', '.join(self.choices)}")
        return self


class BatchPolicy(Part):
    """How the items of a list are put into batches for a model. It changes answers, so it is part of the pipeline.

    Each item is a tensor with a leading axis of 1; a batch joins up to `max` of them along it. Items of one batch are
    padded to the widest (last axis), which is at least `min_width_px` and a multiple of `multiple_of`.
    """

    max: Annotated[int, Field(ge=1, le=4096)]
    sort_by: Literal["none", "aspect"] = "none"
    """`aspect`: last axis over the one before it, narrowest first, ties in list order; results in list order."""
    pad: Literal["none", "right"] = "none"
    """`none`: items of one batch must have one shape; a batch ends where the shape changes."""
    pad_value: float = 0.0
    min_width_px: Annotated[int, Field(ge=0, le=65536)] = 0
    multiple_of: Annotated[int, Field(ge=1, le=65536)] = 1


class Condition(Part):
    """Runs a step only where a boolean is true: a value, or under `each` an item of a list; else `otherwise` passes."""

    value: str
    """A value of type bool or list(bool), or `$PARAM`."""
    otherwise: str
    """The value, of the output's type, that stands in for the output where the condition is false."""


class Step(Part):
    """One operator or model of a pipeline."""

    id: Name
    op: str | None = Field(default=None, pattern=patterns.OPERATOR_VERSION)
    """An operator and its version: `image.resize/1`."""
    model: Name | None = None
    inputs: dict[str, str]
    """Port or tensor name -> value."""
    outputs: dict[str, Name]
    """Port or tensor name -> the value that it defines."""
    params: dict[str, Json] = Field(default_factory=dict)
    """Complete, defaults written out. `"$NAME"` is a run-time parameter, `{"asset": PATH}` a file of the bundle."""
    each: tuple[str, ...] = ()
    """Ports that are fed item by item from lists of one length; the outputs are lists of that length."""
    batch: BatchPolicy | None = None
    when: Condition | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        if (self.op is None) == (self.model is None):
            raise ValueError("a step is either an operator (`op`) or a model (`model`)")
        return self


class PipelineOutput(Part):
    """A value that a run returns."""

    value: str
    type: TypeText


class Pipeline(Part):
    """Inputs, steps in an order in which they can run, outputs."""

    summary: str | None = None
    inputs: dict[Name, TypeText]
    outputs: dict[Name, PipelineOutput]
    params: dict[Name, ParamSpec] = Field(default_factory=dict)
    steps: tuple[Step, ...]
    tier: Literal["portable", "native"] = "native"
    """`portable`: every operator can be lowered to standard ONNX, so any ONNX runtime in any language runs it."""
    needs: tuple[str, ...] = ()
    """The operators, with versions, that are run natively."""

    @model_validator(mode="after")
    def _no_reserved_names(self) -> Pipeline:
        problems = list(reserved_inputs(self.inputs))
        if problems:
            raise several(problems)
        return self


def reserved_inputs(inputs: Iterable[str]) -> Iterable[Problem]:
    """Inputs that no caller could pass: `Session.run` has a use of its own for the name."""
    for name in inputs:
        if name in RESERVED_INPUTS or name == "_":
            expected = f"none of {', '.join(sorted(RESERVED_INPUTS))}, _"
            yield Problem(path=f"inputs.{name}", message="this name is taken", expected=expected)
