"""What a TorchScript module keeps between calls, made into inputs and outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest
from sdkpack_torch.export import flat_names, quietly
from sdkpack_torch.faults import listed, telling
from sdkpack_torch.interpret import interpreted, state_name, unknown_operators, written_attributes
from sdkpack_torch.params import ScriptParams
from sdkpack_torch.shapes import Argument, arguments

__all__ = ["Prepared", "call", "prepare"]

_TENSORS: Final = ("Tensor", "Optional[Tensor]")
_HINT: Final = "check the declared inputs; the log has all of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A script that can be traced."""

    module: Any
    arguments: list[Argument]
    """Inputs, then states."""
    state: list[str]
    """Attributes (dotted) that are states."""
    settled: Mapping[str, Any]
    """Attributes that are no tensors and change -> what they are from the second call on."""
    fixed: Mapping[str, Any]
    output_names: list[str]
    notes: list[str]


def prepare(script: Any, request: ConvertRequest, params: ScriptParams, seed: int) -> Prepared:
    """Finds out what a script takes, keeps and gives.

    Raises:
        ModelError: nothing says what it takes, it fails on that, or it begins with a state that cannot be an input.
    """
    graph = script.forward.graph.copy()
    torch._C._jit_pass_inline(graph)
    unknown = unknown_operators(graph)
    if unknown:
        raise ModelError(
            f"the script uses operators that cannot be traced: {listed(unknown)}",
            hint="export the module with torch.export, or replace them",
        )
    fixed, given = _arguments(script, request, params, seed)
    names = [each.name for each in given]
    written = written_attributes(graph)
    first, settled = _first_call(script, given, fixed, written)
    state = {name: value for name, value in settled.items() if isinstance(value, torch.Tensor)}
    notes = []
    if state:
        zeros = {name: torch.zeros_like(value) for name, value in state.items()}
        _check_start(script, given, fixed, settled, zeros, first)
        kept = listed([state_name(name) for name in state])
        notes.append(
            f"the source keeps {kept} between calls: they are inputs, to begin with zeros, and outputs, to be handed "
            "on to the next call"
        )
        given += [
            Argument(name=state_name(name), dims=tuple(value.shape), example=torch.zeros_like(value))
            for name, value in state.items()
        ]
    module = interpreted(script, graph, names, settled, fixed)
    others = {name: value for name, value in settled.items() if name not in state}
    return Prepared(
        module=module, arguments=given, state=list(state), settled=others, fixed=fixed,
        output_names=flat_names(first), notes=notes,
    )  # fmt: skip


def call(script: Any, prepared: Prepared, given: Mapping[str, torch.Tensor]) -> Any:
    """Calls the script itself, from the states among `given`; what it returns, then the states."""
    fresh = copy.deepcopy(script)
    for name in prepared.state:
        _set(fresh, name, given[state_name(name)].clone())
    for name, value in prepared.settled.items():
        _set(fresh, name, value)
    states = set(map(state_name, prepared.state))
    inputs = {name: value for name, value in given.items() if name not in states}
    returned = fresh(**inputs, **prepared.fixed)
    return returned, [_get(fresh, name) for name in prepared.state]


def _arguments(
    script: Any, request: ConvertRequest, params: ScriptParams, seed: int
) -> tuple[dict[str, Any], list[Argument]]:
    """Arguments that are fixed, and those that are inputs."""
    names, optional, wrong, missing = [], [], [], []
    schema = script.forward.schema.arguments[1:]
    fixed: dict[str, Any] = {}
    for argument in schema:
        kind = argument.type.annotation_str
        if argument.name in params.constants:
            fixed[argument.name] = params.constants[argument.name]
        elif kind in _TENSORS:
            names.append(argument.name)
            if argument.has_default_value():
                optional.append(argument.name)
        elif argument.has_default_value():
            fixed[argument.name] = argument.default_value
        elif kind in ("int", "float", "bool", "str"):
            missing.append(f"{argument.name} ({kind})")
        else:
            wrong.append(f"{argument.name} ({kind})")
    if odd := sorted(set(params.constants) - {argument.name for argument in schema}):
        wrong.append(f"constants names {listed(odd)}, which 'forward' does not take")
    if wrong:
        raise ModelError(
            f"the script takes what cannot be an input of an ONNX model: {listed(wrong)}",
            hint="wrap it into a module that takes tensors",
        )
    if missing:
        example = missing[0].partition(" ")[0]
        raise ModelError(
            f"the script takes arguments that are no tensors: {listed(missing)}",
            hint=f"fix them in the recipe: models.{request.name}.convert.with.constants.{example} = ...",
        )
    return fixed, arguments(names, request, params.dynamic, optional=optional, seed=seed)


def _first_call(script: Any, given: list[Argument], fixed: Mapping[str, Any], written: list[str]) -> Any:
    """What the first call of a fresh script gives, and what it leaves in its attributes."""
    fresh = copy.deepcopy(script)
    sizes = ", ".join(f"{each.name} {list(each.example.shape)}" for each in given)
    with telling(f"the script fails on an input of {sizes}", hint=_HINT), torch.no_grad(), quietly():
        returned = fresh(**{each.name: each.example for each in given}, **fixed)
    return returned, {name: _get(fresh, name) for name in written}


def _check_start(
    script: Any,
    given: list[Argument],
    fixed: Mapping[str, Any],
    settled: Mapping[str, Any],
    zeros: Mapping[str, torch.Tensor],
    first: Any,
) -> None:
    """Zeros in the shapes of later calls must give what the script gives from its own beginning."""
    fresh = copy.deepcopy(script)
    for name, value in {**settled, **zeros}.items():
        _set(fresh, name, value)
    with telling("the script does not take zeros as its state", hint=_HINT), torch.no_grad(), quietly():
        again = fresh(**{each.name: each.example for each in given}, **fixed)
    pairs = zip(torch.utils._pytree.tree_leaves(first), torch.utils._pytree.tree_leaves(again), strict=True)
    if not all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs if isinstance(a, torch.Tensor)):
        raise ModelError(
            f"the script begins with a state {listed(sorted(zeros))} that is not zero, and changes its shape",
            hint="wrap it into a module that takes and returns its state",
        )


def _owner(script: Any, name: str) -> tuple[Any, str]:
    *path, attribute = name.split(".")
    for part in path:
        script = getattr(script, part)
    return script, attribute


def _get(script: Any, name: str) -> Any:
    owner, attribute = _owner(script, name)
    return getattr(owner, attribute)


def _set(script: Any, name: str, value: Any) -> None:
    owner, attribute = _owner(script, name)
    setattr(owner, attribute, value)
