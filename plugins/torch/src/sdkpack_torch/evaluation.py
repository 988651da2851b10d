"""Runs the source on samples: what `evaluate` of every converter here has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdkpack.errors import ModelError
from sdkpack.plugin import EvaluateRequest, StepContext
from sdkpack_torch.export import decomposed, quietly
from sdkpack_torch.faults import listed, telling

__all__ = ["inner_values", "leaves", "model_names", "run_samples"]

Arrays = Mapping[str, torch.Tensor]


def model_names(path: Path) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of a converted model."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return [value.name for value in graph.input], [value.name for value in graph.output]


def run_samples(
    request: EvaluateRequest, context: StepContext, run: Callable[[dict[str, torch.Tensor]], Mapping[str, Any]]
) -> tuple[Path, ...]:
    """Calls `run` with each sample's tensors by the converted model's input names and stores what it gives.

    Raises:
        ModelError: a sample lacks inputs, has others, or the source does not take it.
    """
    names, _ = model_names(request.model)
    written = []
    for place, sample in enumerate(request.samples):
        context.progress(place / len(request.samples), f"running sample {place + 1} of {len(request.samples)}")
        with np.load(sample, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if set(arrays) != set(names):
            raise ModelError(
                f"the sample {sample.name!r} has {listed(sorted(arrays))}, the model takes {listed(names)}",
                hint="give each sample an array for each input",
            )
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        with telling(f"the source does not take the sample {sample.name!r}"), torch.no_grad(), quietly():
            found = run(tensors)
        path = context.work / f"{place}.npz"
        np.savez(path, **{name: _array(value) for name, value in found.items()})
        written.append(path)
    return tuple(written)


def _array(value: Any) -> Any:
    tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    if tensor.dtype == torch.bfloat16:
        # NumPy has no such type; each of its values is one of float32's.
        tensor = tensor.float()
    return tensor.detach().cpu().numpy()


def leaves(tree: Any) -> list[torch.Tensor]:
    """The tensors of what a model returned, in order; None and fixed values are not outputs of the ONNX model."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def inner_values(program: Any, flat_inputs: list[Any], wanted: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Values inside of the program by the names that the exporter gave them; those that it has."""
    from torch.export.graph_signature import InputKind

    lowered = decomposed(program)
    found: dict[str, torch.Tensor] = {}

    class Watching(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if n.name in wanted and isinstance(value, torch.Tensor):
                found[n.name] = value.clone()
            return value

    given = iter(flat_inputs)
    arguments = []
    for spec in lowered.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            arguments.append(next(given))
        elif spec.target in lowered.state_dict:
            arguments.append(lowered.state_dict[spec.target])
        else:
            arguments.append(lowered.constants[spec.target])
    with torch.no_grad():
        Watching(lowered.graph_module).run(*arguments)
    return found
