"""From a module and arguments to a program of torch.export, with the author's names for what stays open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, ConvertResult, StepContext
from sdkpack_torch.export import choose_opset, flat_names, quietly, rename, save, to_onnx
from sdkpack_torch.faults import ANY_FAULT, brief
from sdkpack_torch.params import ModuleParams, ScriptParams
from sdkpack_torch.program import tools
from sdkpack_torch.shapes import Argument, dynamic_shapes

__all__ = ["convert_traced", "trace"]


def trace(module: Any, found: Sequence[Argument], fixed: Mapping[str, Any]) -> Any:
    """The program of one call with `found`, and `fixed` arguments that are no tensors, all by name.

    Raises:
        ModelError: an axis cannot stay open, what runs depends on values, or the module fails.
    """
    arguments = {**{each.name: each.example for each in found}, **fixed}
    shapes: dict[str, Any] = {**dynamic_shapes(found), **dict.fromkeys(fixed)}
    try:
        with quietly(), torch.no_grad():
            return torch.export.export(module, (), arguments, dynamic_shapes=shapes, strict=False)
    except ANY_FAULT as error:
        raise _told(error, found) from error


def _told(error: BaseException, found: Sequence[Argument]) -> ModelError:
    text = str(error)
    sizes = ", ".join(f"{each.name} {list(each.example.shape)}" for each in found)
    names = sorted({str(dim) for each in found for dim in each.dims if isinstance(dim, str)})
    if "onstraints violated" in text or "specialized" in text:
        closed = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
        return ModelError(
            f"the sizes {', '.join(closed or names)} cannot stay open: {brief(error)}",
            hint="declare them as numbers, or change what fixes them in the model",
        )
    if "data-dependent" in text or "Could not guard" in text or "unbacked" in text:
        return ModelError(
            f"what the model does depends on the values that it computes: {brief(error)}",
            hint="use torch.where or torch.cond there; where it is a size that decides, declare that as a number",
        )
    return ModelError(
        f"the model fails on an input of {sizes}: {brief(error)}",
        hint="check the declared inputs; the log has all of it",
    )


def convert_traced(
    program: Any,
    found: Sequence[Argument],
    request: ConvertRequest,
    context: StepContext,
    *,
    outputs: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ConvertResult:
    """Exports and writes a traced program.

    Args:
        program: as `trace` gave it for `found`.
        found: the arguments, in the order of the program's inputs.
        request: the author's.
        context: of the step.
        outputs: names for the outputs; empty: those of what the module returns.
        notes: what is known already.
    """
    params = request.params
    assert isinstance(params, ScriptParams | ModuleParams)
    opset = choose_opset(params.opset, request.opset)
    context.progress(0.5, "exporting")
    model, more = to_onnx(program, opset)
    names = params.output_names or outputs or _returned_names(program)
    rename(model, params.input_names or [each.name for each in found], names, _symbols(program, found))
    context.progress(0.8, "checking")
    path = context.work / "model.onnx"
    save(model, path, opset)
    return ConvertResult(model=path, notes=(*notes, *more), tools=tools())


def _returned_names(program: Any) -> list[str]:
    spec = program.call_spec.out_spec
    tree = torch.utils._pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    kinds = [out.arg for out in program.graph_signature.output_specs if out.kind.name == "USER_OUTPUT"]
    names = flat_names(tree)
    return [name for name, kind in zip(names, kinds, strict=True) if type(kind).__name__ != "ConstantArgument"]


def _symbols(program: Any, found: Sequence[Argument]) -> dict[str, str]:
    """torch's names of open sizes -> the author's."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = [name for name in program.graph_signature.user_inputs if isinstance(name, str) and name in nodes]
    symbols: dict[str, str] = {}
    for name, each in zip(inputs, found, strict=True):
        for dim, own in zip(each.dims, nodes[name].meta["val"].shape, strict=True):
            if isinstance(dim, str) and not isinstance(own, int):
                symbols[str(own)] = dim
    return symbols
