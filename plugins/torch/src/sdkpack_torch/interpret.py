"""Runs the graph of a TorchScript module operator by operator, so that torch.export can trace it.

TorchScript graphs have branches, loops, lists, exceptions and attributes that change: most of it is decided by sizes
and settings, and is gone once the graph was run for given ones. ONNX needs what is left, and that is what torch.export
writes down while this runs. A branch over values of tensors cannot be decided that way; torch.export says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch

from sdkpack_torch.scriptops import PLAIN, PRIM, SHARED, ScriptRaisedError, dtype_of

__all__ = ["Mirror", "interpreted", "state_name", "unknown_operators", "written_attributes"]

_MAX_TURNS: Final = 100_000
"""Of a loop that ends by a condition: one that never does would fill the memory first."""


class Mirror(torch.nn.Module):  # type: ignore[misc]
    """A plain module with the parameters, buffers and parts of a TorchScript one, under their names."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.training = False
        # Not an attribute that torch.nn.Module would look into.
        object.__setattr__(self, "script", script)
        for name, parameter in script.named_parameters(recurse=False):
            self.register_parameter(name, torch.nn.Parameter(parameter.detach(), requires_grad=False))
        for name, buffer in script.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, child in script.named_children():
            self.add_module(name, Mirror(child))


def interpreted(
    script: Any, graph: Any, names: Sequence[str], state: Mapping[str, Any], fixed: Mapping[str, Any]
) -> Any:
    """A module whose call runs `graph`.

    Args:
        script: the loaded TorchScript module.
        graph: of its `forward`, inlined.
        names: of the tensors that it is called with.
        state: attributes (dotted) that `forward` writes -> their values at the start; tensors among them become
            arguments, and outputs, of the call.
        fixed: values of arguments that are no tensors.
    """
    tensors = [name for name, value in state.items() if isinstance(value, torch.Tensor)]

    class Interpreted(Mirror):
        def forward(self, **arguments: Any) -> Any:
            held = {name: arguments[state_name(name)] if name in tensors else value for name, value in state.items()}
            run = _Run(self, held)
            inputs = list(graph.inputs())
            given = {**fixed, **arguments}
            run.values[inputs[0].debugName()] = self
            for value, argument in zip(inputs[1:], script.forward.schema.arguments[1:], strict=True):
                run.values[value.debugName()] = given.get(argument.name, argument.default_value)
            returned = run.block(graph)
            answer = returned[0] if len(returned) == 1 else tuple(returned)
            return (answer, {name: run.held[name] for name in tensors}) if tensors else answer

    # torch.export matches open sizes to arguments by their names.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    all_names = ("self", *names, *map(state_name, tensors))
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in all_names])
    Interpreted.forward.__signature__ = signature  # type: ignore[attr-defined]
    return Interpreted(script)


def state_name(path: str) -> str:
    """The input's name of an attribute: `decoder.hidden` as `decoder_hidden`."""
    return path.replace(".", "_")


def _nodes(block: Any) -> Any:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def written_attributes(graph: Any) -> list[str]:
    """Dotted names of the attributes that a graph writes."""
    owners: dict[str, str] = {next(iter(graph.inputs())).debugName(): ""}
    found = []
    for node in _nodes(graph):
        if node.kind() == "prim::GetAttr" and node.inputsAt(0).debugName() in owners:
            prefix = owners[node.inputsAt(0).debugName()]
            owners[node.output().debugName()] = f"{prefix}.{node.s('name')}".lstrip(".")
        elif node.kind() == "prim::SetAttr":
            found.append(f"{owners[node.inputsAt(0).debugName()]}.{node.s('name')}".lstrip("."))
    return list(dict.fromkeys(found))


def unknown_operators(graph: Any) -> list[str]:
    """Kinds of nodes that cannot be run here."""
    kinds = {node.kind(): node for node in _nodes(graph)}
    return sorted(kind for kind, node in kinds.items() if kind not in PRIM and not _runnable(node))


def _runnable(node: Any) -> bool:
    if _python(node) is not None:
        return True
    try:
        _overload(node)
    except AttributeError:
        return False
    return True


class _Run:
    """One call of a graph."""

    def __init__(self, module: Any, held: dict[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        self.held = held
        self._paths = {id(part): name for name, part in module.named_modules()}

    def block(self, block: Any) -> list[Any]:
        for node in block.nodes():
            self._node(node)
        return [self.values[value.debugName()] for value in block.outputs()]

    def _node(self, node: Any) -> None:
        kind = node.kind()
        inputs = [self.values[value.debugName()] for value in node.inputs()]
        if kind == "prim::If":
            chosen = list(node.blocks())[0 if bool(inputs[0]) else 1]
            self._set(node, self.block(chosen))
        elif kind == "prim::Loop":
            self._set(node, self._loop(node, inputs))
        elif kind == "prim::GetAttr":
            self._set(node, [self._attribute(inputs[0], node.s("name"))])
        elif kind == "prim::SetAttr":
            self.held[self._path(inputs[0], node.s("name"))] = inputs[1]
        elif kind in PRIM:
            self._set(node, PRIM[kind](node, inputs))
        else:
            found = _call(node, inputs)
            self._set(node, [found] if node.outputsSize() == 1 else list(found or ()))

    def _set(self, node: Any, values: Sequence[Any]) -> None:
        for output, value in zip(node.outputs(), values, strict=True):
            self.values[output.debugName()] = value

    def _loop(self, node: Any, inputs: list[Any]) -> list[Any]:
        most, going, carried = inputs[0], inputs[1], inputs[2:]
        (body,) = node.blocks()
        names = [value.debugName() for value in body.inputs()]
        turn = 0
        while bool(going) and turn < most:
            if turn >= _MAX_TURNS:
                raise ScriptRaisedError(f"a loop did not end in {_MAX_TURNS} turns")
            self.values.update(zip(names, [turn, *carried], strict=True))
            going, *carried = self.block(body)
            turn += 1
        return carried

    def _path(self, owner: Any, name: str) -> str:
        return f"{self._paths[id(owner)]}.{name}".lstrip(".")

    def _attribute(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, Mirror):
            return getattr(owner, name)
        path = self._path(owner, name)
        if path in self.held:
            return self.held[path]
        for place in (owner._parameters, owner._buffers, owner._modules):
            if name in place:
                return place[name]
        return getattr(owner.script, name)


def _call(node: Any, inputs: list[Any]) -> Any:
    plain = _python(node)
    if plain is not None and not (node.kind() in SHARED and any(isinstance(x, torch.Tensor) for x in inputs)):
        return plain(*inputs)
    overload = _overload(node)
    arguments, keywords = [], {}
    for argument, value in zip(overload._schema.arguments, inputs, strict=True):
        given = _typed(argument, value)
        if argument.kwarg_only:
            keywords[argument.name] = given
        else:
            arguments.append(given)
    return overload(*arguments, **keywords)


def _typed(argument: Any, value: Any) -> Any:
    """TorchScript has numbers for types, layouts and memory formats."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if argument.name == "dtype":
        return dtype_of(value)
    if argument.name == "layout":
        return torch.strided if value == 0 else value
    if argument.name == "memory_format":
        return {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last}.get(value, value)
    return value


def _python(node: Any) -> Callable[..., Any] | None:
    return PLAIN.get(node.kind())


def _overload(node: Any) -> Any:
    """
    Raises:
        AttributeError: torch has no such operator outside of TorchScript.
    """
    space, _, name = node.kind().partition("::")
    schema = node.schema()
    if schema == "(no schema)":
        raise AttributeError(node.kind())
    overload = schema.partition("(")[0].partition(".")[2]
    return getattr(getattr(getattr(torch.ops, space), name), overload or "default")
