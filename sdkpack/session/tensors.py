"""Checks tensors against their specs: names, element types, ranks, sizes, and symbols that must agree."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import InputError, PluginBrokenError, Problem
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_inputs", "check_outputs", "dtype_name"]

_ANY: Final = "?"


def dtype_name(array: NDArray[Any]) -> str:
    """An array's element type by sdkpack's name: `float8e4m3fn`, `string`."""
    if array.dtype.kind in "OUST":
        return "string"
    return array.dtype.name.replace("_", "")


def check_inputs(specs: Sequence[TensorSpec], values: Mapping[str, Any], *, what: str) -> dict[str, NDArray[Any]]:
    """The values as contiguous arrays in this machine's byte order.

    Args:
        specs: what `what` takes. A symbol stands for one size throughout.
        values: arrays by name; nothing is converted silently, a list of numbers is refused.
        what: for messages: `model 'det'`.

    Raises:
        InputError: names, element types, ranks or sizes are wrong; all findings at once.
    """
    problems = _name_problems(specs, values)
    arrays: dict[str, NDArray[Any]] = {}
    bound: dict[str, tuple[int, str]] = {}
    for spec in specs:
        if spec.name not in values:
            continue
        array, problem = _array(spec, values[spec.name])
        if array is not None:
            problem = _type_problem(spec, array) or _shape_problem(spec, array.shape, bound)
            arrays[spec.name] = array
        if problem is not None:
            problems.append(problem)
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InputError(f"{count} with the inputs of {what}", problems=problems)
    return arrays


def check_outputs(specs: Sequence[TensorSpec], values: Mapping[str, Any], *, what: str) -> dict[str, NDArray[Any]]:
    """The outputs that a runner gave, in the order of the specs.

    Fixed sizes must hold. Symbols of outputs are not compared: exporters let authors give two different sizes the same
    name (the `height` of an image and of a map a quarter as high), and no runtime minds.

    Raises:
        PluginBrokenError: the runner broke its contract.
    """
    import numpy as np

    problems = [
        Problem(path=spec.name, message="missing", got=_listed(values)) for spec in specs if spec.name not in values
    ]
    arrays: dict[str, NDArray[Any]] = {}
    for spec in specs:
        if spec.name in values:
            array = np.asarray(values[spec.name])
            problem = _type_problem(spec, array) or _shape_problem(spec, array.shape, None)
            problems += [problem] if problem else []
            arrays[spec.name] = array
    if problems:
        raise PluginBrokenError(f"{what} gave outputs that are not as its bundle says", problems=problems)
    return arrays


def _name_problems(specs: Sequence[TensorSpec], values: Mapping[str, Any]) -> list[Problem]:
    names = [spec.name for spec in specs]
    problems = [Problem(path=spec.name, message="missing", expected=str(spec.type)) for spec in specs
                if spec.name not in values]  # fmt: skip
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else ""
            problems.append(Problem(path=name, message="unknown input", expected=_listed(names), hint=hint))
    return problems


def _array(spec: TensorSpec, value: Any) -> tuple[NDArray[Any] | None, Problem | None]:
    import numpy as np

    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
        kind = type(value).__name__
        hint = (
            f"numpy.asarray(value, dtype={spec.dtype!r}) makes one"
            if isinstance(value, list | tuple | int | float)
            else ""
        )
        return None, Problem(path=spec.name, message="not an array", got=kind, expected=str(spec.type), hint=hint)
    array = np.asarray(value, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array, None


def _type_problem(spec: TensorSpec, array: NDArray[Any]) -> Problem | None:
    got = dtype_name(array)
    if got != spec.dtype:
        hint = (
            f"array.astype({spec.dtype!r}) converts it"
            if spec.dtype in {"float32", "float64", "int64", "int32"}
            else ""
        )
        return Problem(path=spec.name, message="wrong element type", got=got, expected=spec.dtype, hint=hint)
    if got == "string" and array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.flat):
        return Problem(path=spec.name, message="an item is not a str", expected=str(spec.type))
    return None


def _shape_problem(
    spec: TensorSpec, shape: tuple[int, ...], bound: dict[str, tuple[int, str]] | None
) -> Problem | None:
    """Compares sizes; `bound` collects what symbols stand for: size, and the input that said so."""
    message = _shape_mismatch(spec, shape, bound)
    if not message:
        return None
    return Problem(path=spec.name, message=message, got=str(list(shape)), expected=str(spec.type))


def _shape_mismatch(spec: TensorSpec, shape: tuple[int, ...], bound: dict[str, tuple[int, str]] | None) -> str:
    if len(shape) != len(spec.shape):
        return f"wrong number of dimensions, {len(shape)} instead of {len(spec.shape)}"
    for axis, (size, dim) in enumerate(zip(shape, spec.shape, strict=True)):
        if isinstance(dim, int):
            if size != dim:
                return f"wrong size along axis {axis}, {size} instead of {dim}"
        elif dim != _ANY and bound is not None:
            known, source = bound.setdefault(dim, (size, spec.name))
            if known != size:
                return f"{dim} is {size} along axis {axis}, but {known} in {source!r}"
    return ""


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"one of {', '.join(names)}" if names else "none"
