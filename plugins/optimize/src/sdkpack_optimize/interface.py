"""Puts a model's inputs and outputs back as they were, and what it says of its inner values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdkpack.errors import StepError
from sdkpack_optimize.files import graphs_of

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

__all__ = ["restore_interface", "restore_shapes"]


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


def restore_shapes(before: ModelProto, after: ModelProto) -> None:
    """Inner values have the types and shapes that the model came with, and no others.

    What libraries inferred is sometimes wrong; and onnxruntime, told more shapes than it infers itself, fuses what
    makes it slower (SkipLayerNormalization: 10 % of an encoder).
    """
    known: dict[str, ValueInfoProto | None] = {}
    for graph in graphs_of(before):
        for info in graph.value_info:
            known[info.name] = None if info.name in known else info  # of two graphs: two values
    for graph in graphs_of(after):
        names = [info.name for info in graph.value_info]
        del graph.value_info[:]
        graph.value_info.extend(info for name in names if (info := known.get(name)) is not None)
