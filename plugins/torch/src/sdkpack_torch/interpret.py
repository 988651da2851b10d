"""Runs the graph of a TorchScript module operator by operator, so that torch.export can trace it.

TorchScript graphs have branches, loops, lists, exceptions and attributes that change: most of it is decided by sizes
and settings, and is gone once the graph was run for given ones. ONNX needs what is left, and that is what torch.export
writes down while this runs. A branch over values of tensors cannot be decided that way; torch.export says so.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch

from sdkpack.errors import ModelError
from sdkpack_torch.faults import listed
from sdkpack_torch.words import words

__all__ = ["Mirror", "ScriptRaisedError", "interpreted", "state_name", "unknown_operators", "written_attributes"]

_MAX_TURNS: Final = 100_000
"""Of a loop that ends by a condition: one that never does would fill the memory first."""
_DTYPES: Final = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    None, torch.complex64, torch.complex128, torch.bool, None, None, None, torch.bfloat16,
)  # fmt: skip
"""By their numbers in TorchScript (c10::ScalarType)."""


class ScriptRaisedError(ValueError):
    """The script raised an exception of its own: it does not take these inputs."""


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
    return sorted(kind for kind, node in kinds.items() if kind not in _PRIM and not _runnable(node))


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
        elif kind in _PRIM:
            self._set(node, _PRIM[kind](node, inputs))
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
    if plain is not None and not (node.kind() in _PLAIN_ONLY and any(isinstance(x, torch.Tensor) for x in inputs)):
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
        return _dtype(value)
    if argument.name == "layout":
        return torch.strided if value == 0 else value
    if argument.name == "memory_format":
        return {0: torch.contiguous_format, 1: torch.preserve_format, 2: torch.channels_last}.get(value, value)
    return value


def _dtype(number: int | None) -> Any:
    return number if number is None or not 0 <= number < len(_DTYPES) else _DTYPES[number]


def _python(node: Any) -> Callable[..., Any] | None:
    return _PLAIN.get(node.kind())


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


def _constant(node: Any, _: list[Any]) -> list[Any]:
    return [node.output().toIValue()]


def _raise(node: Any, inputs: list[Any]) -> list[Any]:
    raise ScriptRaisedError(str(inputs[0]) or "the script raised an exception without a text")


def _is_instance(node: Any, inputs: list[Any]) -> list[Any]:
    kinds = {"int": int, "float": float, "bool": bool, "str": str, "Tensor": torch.Tensor}
    names = [str(kind) for kind in node.tys("types")]
    unknown = [name for name in names if name not in kinds and name != "NoneType"]
    if unknown:
        raise ModelError(f"the script asks for the type {listed(unknown)}, which cannot be decided here")
    value = inputs[0]
    return [any(value is None if name == "NoneType" else type(value) is kinds[name] for name in names)]


def _number_of(tensor: Any) -> int:
    return _DTYPES.index(tensor.dtype)


def _tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
    return torch.tensor(data, dtype=_dtype(dtype) if isinstance(dtype, int) else dtype)


def _scalar(tensor: Any) -> Any:
    return tensor.item() if isinstance(tensor, torch.Tensor) else tensor


def _size(tensor: Any, axis: int | None = None) -> Any:
    return list(tensor.shape) if axis is None else tensor.shape[axis]


def _append(items: list[Any], item: Any) -> list[Any]:
    items.append(item)
    return items


def _set_item(items: Any, key: Any, value: Any) -> Any:
    items[key] = value
    return items


def _floordiv(a: Any, b: Any) -> Any:
    return a // b


def _round_half_even(x: Any, digits: int = 0) -> Any:
    return float(round(x, digits))


_PRIM: Final[Mapping[str, Callable[[Any, list[Any]], Sequence[Any]]]] = {
    "prim::If": lambda node, x: x,
    "prim::Loop": lambda node, x: x,
    "prim::GetAttr": lambda node, x: x,
    "prim::SetAttr": lambda node, x: x,
    "prim::Constant": _constant,
    "prim::Uninitialized": lambda node, x: [None],
    "prim::RaiseException": _raise,
    "prim::ListConstruct": lambda node, x: [list(x)],
    "prim::TupleConstruct": lambda node, x: [tuple(x)],
    "prim::DictConstruct": lambda node, x: [dict(zip(x[::2], x[1::2], strict=True))],
    "prim::ListUnpack": lambda node, x: list(x[0]),
    "prim::TupleUnpack": lambda node, x: list(x[0]),
    "prim::TupleIndex": lambda node, x: [x[0][x[1]]],
    "prim::TupleSlice": lambda node, x: [x[0][node.i("beg") : node.i("end")]],
    "prim::unchecked_cast": lambda node, x: x,
    "prim::unchecked_unwrap_optional": lambda node, x: x,
    "prim::isinstance": _is_instance,
    "prim::Print": lambda node, x: [],
    "prim::dtype": lambda node, x: [_number_of(x[0])],
    "prim::device": lambda node, x: [x[0].device],
    "prim::is_cuda": lambda node, x: [False],
    "prim::layout": lambda node, x: [0],
    "prim::requires_grad": lambda node, x: [False],
    "prim::data": lambda node, x: x,
    "prim::NumToTensor": lambda node, x: [torch.tensor(x[0])],
    "prim::shape": lambda node, x: [list(x[0].shape)],
    "prim::min": lambda node, x: [min(*x) if len(x) > 1 else min(x[0])],
    "prim::max": lambda node, x: [max(*x) if len(x) > 1 else max(x[0])],
    "prim::abs": lambda node, x: [abs(x[0])],
}
_PLAIN: Final[Mapping[str, Callable[..., Any]]] = {
    "aten::size": _size,
    "aten::dim": lambda x: x.dim(),
    "aten::len": len,
    "aten::numel": lambda x: x.numel(),
    "aten::is_floating_point": lambda x: x.dtype.is_floating_point,
    "aten::is_complex": lambda x: x.dtype.is_complex,
    "aten::__getitem__": operator.getitem,
    "aten::__contains__": lambda items, item: item in items,
    "aten::__not__": operator.not_,
    "aten::__is__": lambda a, b: a is b,
    "aten::__isnot__": lambda a, b: a is not b,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::_set_item": _set_item,
    "aten::append": _append,
    "aten::extend": lambda items, more: items.extend(more),
    "aten::insert": lambda items, place, item: items.insert(place, item),
    "aten::pop": lambda items, *key: items.pop(*key),
    "aten::copy": list,
    "aten::list": list,
    "aten::keys": lambda items: list(items.keys()),
    "aten::values": lambda items: list(items.values()),
    "aten::items": lambda items: list(items.items()),
    "aten::get": lambda items, key, default=None: items.get(key, default),
    "aten::range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "aten::format": lambda text, *items: text.format(*items),
    "aten::percentFormat": lambda text, *items: text % items,
    "aten::str": str,
    "aten::warn": lambda *_: None,
    "aten::Int": lambda x: int(_scalar(x)),
    "aten::Float": lambda x: float(_scalar(x)),
    "aten::Bool": lambda x: bool(_scalar(x)),
    "aten::IntImplicit": lambda x: int(_scalar(x)),
    "aten::FloatImplicit": lambda x: float(_scalar(x)),
    "aten::ScalarImplicit": _scalar,
    "aten::item": _scalar,
    "aten::tensor": _tensor,
    "aten::as_tensor": lambda data, dtype=None, device=None: (
        data if isinstance(data, torch.Tensor) and dtype is None else _tensor(data, dtype)
    ),
    "aten::is_scripting": lambda: True,
    # What traced modules have: the rest of its arguments are hints to libraries of graphics cards.
    "aten::_convolution": lambda *x: torch.ops.aten.convolution(*x[:9]),
    "aten::device": torch.device,
    "aten::add": operator.add,
    "aten::sub": operator.sub,
    "aten::mul": operator.mul,
    "aten::div": operator.truediv,
    "aten::floordiv": _floordiv,
    "aten::floor_divide": _floordiv,
    "aten::remainder": operator.mod,
    "aten::pow": operator.pow,
    "aten::neg": operator.neg,
    "aten::abs": abs,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::floor": math.floor,
    "aten::ceil": math.ceil,
    "aten::round": _round_half_even,
    "aten::sqrt": math.sqrt,
    "aten::exp": math.exp,
    "aten::log": math.log,
    "aten::sin": math.sin,
    "aten::cos": math.cos,
    "aten::slice": lambda items, start=None, stop=None, step=1: items[start:stop:step],
}
_PLAIN_ONLY: Final = words(
    "aten::__and__ aten::__or__ aten::add aten::sub aten::mul aten::div aten::floor_divide aten::remainder aten::pow "
    "aten::neg aten::abs aten::eq aten::ne aten::lt aten::le aten::gt aten::ge aten::floor aten::ceil aten::round "
    "aten::sqrt aten::exp aten::log aten::sin aten::cos aten::slice aten::copy"
)
"""Names that numbers and lists share with tensors: over these, torch's own operators run."""
