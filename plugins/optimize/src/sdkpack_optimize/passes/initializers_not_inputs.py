"""Initializers that are inputs too become constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.plugin import OptimizeRequest
from sdkpack_optimize.base import IrPass

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["InitializersNotInputsPass"]


class InitializersNotInputsPass(IrPass):
    """Takes inputs that an initializer gives a default off the list of inputs.

    Until IR version 4 every weight had to be an input, and exporters of that time made them so; a runtime must then
    expect other weights in each run, and can fold nothing. Where some inputs have a default and these are what the
    author means to set, the pass is to be left out: `optimize.initializers-not-inputs = false`. An input without a
    default always stays.

    Requires: nothing. Ensures: no input of the main graph has an initializer; IR version 4 or later.
    """

    must_shrink = False
    keeps_inputs = False

    def apply(self, model: ir.Model, request: OptimizeRequest) -> tuple[str, ...]:
        from onnx_ir.passes.common import RemoveInitializersFromInputsPass

        names = [value.name for value in model.graph.inputs if value.is_initializer()]
        RemoveInitializersFromInputsPass()(model)
        # Before version 4 an initializer has to be an input.
        model.ir_version = max(model.ir_version, 4)
        return (f"{len(names)} inputs with a default are constants now",)

    def has_work(self, proto: ModelProto) -> bool:
        return bool({value.name for value in proto.graph.input} & {tensor.name for tensor in proto.graph.initializer})

    def is_worth(self, before: ModelProto, after: ModelProto) -> bool:
        return len(after.graph.input) < len(before.graph.input)
