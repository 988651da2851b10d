"""What TorchScript's operators do that are not torch's own: over numbers, lists, texts and types."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch

from sdkpack.errors import ModelError
from sdkpack_torch.faults import listed
from sdkpack_torch.words import words

__all__ = ["PLAIN", "PRIM", "SHARED", "ScriptRaisedError", "dtype_of"]

_DTYPES: Final = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    None, torch.complex64, torch.complex128, torch.bool, None, None, None, torch.bfloat16,
)  # fmt: skip
"""By their numbers in TorchScript (c10::ScalarType)."""


class ScriptRaisedError(ValueError):
    """The script raised an exception of its own: it does not take these inputs."""


def dtype_of(number: int | None) -> Any:
    return number if number is None or not 0 <= number < len(_DTYPES) else _DTYPES[number]


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
    return torch.tensor(data, dtype=dtype_of(dtype) if isinstance(dtype, int) else dtype)


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


PRIM: Final[Mapping[str, Callable[[Any, list[Any]], Sequence[Any]]]] = {
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
PLAIN: Final[Mapping[str, Callable[..., Any]]] = {
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
SHARED: Final = words(
    "aten::__and__ aten::__or__ aten::add aten::sub aten::mul aten::div aten::floor_divide aten::remainder aten::pow "
    "aten::neg aten::abs aten::eq aten::ne aten::lt aten::le aten::gt aten::ge aten::floor aten::ceil aten::round "
    "aten::sqrt aten::exp aten::log aten::sin aten::cos aten::slice aten::copy"
)
"""Names that numbers and lists share with tensors: over these, torch's own operators run."""
