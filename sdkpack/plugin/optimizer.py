"""Optimizers: ONNX in, ONNX out, the meaning kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sdkpack.plugin.context import StepContext
from sdkpack.plugin.runtime import ModelFile, Probe

__all__ = ["OptimizeRequest", "OptimizeResult", "Optimizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeRequest:
    """One model to optimise."""

    model: ModelFile
    params: Any = None
    """An instance of the descriptor's params dataclass."""
    opsets: tuple[int, int] | None = None
    """The oldest and the newest version of ONNX's own operators that the model may import afterwards; None: any."""
    domains: tuple[str, ...] = ("", "ai.onnx.ml")
    """Domains of operators that the model may use afterwards, beside those that it uses already. `""` is ONNX's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeResult:
    """The optimised model."""

    model: Path
    """In the work folder; or the request's own `path` where `modified` is false."""
    modified: bool
    keeps_data: bool = False
    """Whether the external data that `model` names is the request's own, unchanged, and not beside it: gigabytes are
    not copied for a node that went. The core puts the model where its data is."""
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what did the work, by name."""


@runtime_checkable
class Optimizer(Protocol):
    """One kind of change that keeps what a model means. Inputs and outputs keep their names, types, order and shapes,
    open dimensions their names; an open dimension stays open.

    The same model gives the same bytes, and a second run of all passes changes nothing. The core guards every pass: it
    loads the result, compares interface, operators, size and the outputs on several inputs and sizes with what came in,
    and goes on without the pass where anything differs. So a pass need not be right for every model; it has to be worth
    trying.
    """

    def probe(self) -> Probe:
        """Says whether the toolchain is there, without loading it for long or changing anything."""
        ...

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        """Optimises one model.

        Raises:
            sdkpack.errors.StepError: the toolchain failed.
        """
        ...
