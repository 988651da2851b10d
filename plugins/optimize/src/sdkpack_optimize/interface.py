"""Puts a model's inputs and outputs back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.errors import StepError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["restore_interface"]


def restore_interface(before: ModelProto, after: ModelProto, *, keep_inputs: bool) -> None:
    """Inputs and outputs of `before` in their order, with their types, shapes and texts, in `after`.

    Libraries drop inputs that nothing reads, and write what they inferred over open dimensions.

    Args:
        keep_inputs: whether inputs that an initializer gives a default stay inputs.

    Raises:
        StepError: an output is gone, or an input's name is something else's now.
    """
    outputs = [value.name for value in before.graph.output]
    if [value.name for value in after.graph.output] != outputs:
        got = [value.name for value in after.graph.output]
        raise StepError(f"outputs are {got}, expected {outputs}", hint="leave this pass out")
    defaults = {tensor.name for tensor in before.graph.initializer}
    inputs = [value for value in before.graph.input if keep_inputs or value.name not in defaults]
    present = {tensor.name for tensor in after.graph.initializer}
    made = {name for node in after.graph.node for name in node.output}
    for value in inputs:
        if value.name in made or (value.name in present) != (value.name in defaults):
            raise StepError(f"input {value.name!r} is no longer an input", hint="leave this pass out")
    del after.graph.input[:]
    after.graph.input.extend(inputs)
    del after.graph.output[:]
    after.graph.output.extend(before.graph.output)
