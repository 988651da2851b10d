"""Inputs to trace a model with: from what the author declares, or from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest
from sdkpack.types import TensorSpec
from sdkpack_torch.faults import listed
from sdkpack_torch.words import words

__all__ = ["Argument", "arguments", "dynamic_shapes"]

_FIRST_AXIS: Final = 2
_OTHER_AXES: Final = 64
_STEP: Final = 32
"""Open sizes are tried as 2, 3, ... on first axes and 64, 96, 128, ... on others: no two names get one size, so that
equal sizes are not taken for one axis; and not 0 or 1, which torch would hold for fixed."""
_DTYPES: Final[Mapping[str, torch.dtype]] = {
    name: getattr(torch, name)
    for name in words(
        "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 complex128"
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One input to trace with."""

    name: str
    dims: tuple[int | str, ...]
    example: torch.Tensor


def arguments(
    names: Sequence[str],
    request: ConvertRequest,
    dynamic: Mapping[str, Mapping[str, str]],
    *,
    optional: Sequence[str] = (),
    seed: int = 0,
) -> list[Argument]:
    """The arguments of these names, in their order; optional ones only where they are declared.

    Raises:
        ModelError: some are neither declared nor in a sample, declared under other names, or of unclear sizes; all of
            them named at once.
    """
    specs = _specs(request, dynamic)
    _check(names, specs, request)
    wanted = [name for name in names if name in specs or name not in optional]
    missing = [name for name in wanted if name not in specs]
    if missing:
        raise ModelError(
            f"nothing says the types and shapes of the inputs {listed(missing)}",
            hint="declare them in the recipe, "
            f'models.{request.name}.inputs.{missing[0]} = {{ dtype = "float32", shape = ["N", 3, 224, 224] }}, '
            "or give samples",
        )
    sample = _sample(request)
    sizes = _sizes([specs[name] for name in wanted], sample)
    generator = torch.Generator().manual_seed(seed)
    return [
        Argument(name=name, dims=specs[name].shape, example=_example(specs[name], sizes, sample, generator))
        for name in wanted
    ]


def dynamic_shapes(found: Sequence[Argument]) -> dict[str, dict[int, Any]]:
    """Open axes as `torch.export` takes them: one `Dim` for each name, so that equal names must be equal sizes."""
    dims = {dim: torch.export.Dim(dim) for each in found for dim in each.dims if isinstance(dim, str)}
    return {
        each.name: {axis: dims[dim] for axis, dim in enumerate(each.dims) if isinstance(dim, str)} for each in found
    }


def _specs(request: ConvertRequest, dynamic: Mapping[str, Mapping[str, str]]) -> dict[str, TensorSpec]:
    """By name: declared inputs, else those of the first sample, with the axes open that `dynamic` names."""
    specs = {spec.name: spec for spec in request.inputs}
    for name, array in _sample(request).items():
        if name not in specs:
            specs[name] = TensorSpec(name=name, dtype=str(array.dtype), shape=tuple(array.shape))
    for name, axes in dynamic.items():
        if name not in specs:
            continue
        shape = list(specs[name].shape)
        for axis, symbol in axes.items():
            if int(axis) >= len(shape):
                raise ModelError(
                    f"dynamic names axis {axis} of the input {name!r}, which has {len(shape)}",
                    hint=f"models.{request.name}.convert.with.dynamic.{name} counts axes from 0",
                )
            shape[int(axis)] = symbol
        specs[name] = TensorSpec(name=name, dtype=specs[name].dtype, shape=tuple(shape))
    return specs


def _check(names: Sequence[str], specs: Mapping[str, TensorSpec], request: ConvertRequest) -> None:
    declared = {spec.name for spec in request.inputs}
    odd = sorted(declared - set(names))
    if odd:
        raise ModelError(
            f"the model has no input {listed(odd)}, it has {listed(list(names)) or 'none'}",
            hint=f"rename models.{request.name}.inputs.{odd[0]}, or name the inputs with convert.with.input_names",
        )
    faults = []
    for name in names:
        spec = specs.get(name)
        if spec is None:
            continue
        if spec.dtype not in _DTYPES:
            faults.append(f"{name!r} is of type {spec.dtype}, which torch's exporter does not take")
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and not dim.isidentifier():
                faults.append(f"axis {axis} of {name!r} is {dim!r}: neither a size nor a name")
    if faults:
        raise ModelError(
            f"inputs are not clear: {'; '.join(faults)}", hint="give each axis a size, or a name of letters and digits"
        )


def _sample(request: ConvertRequest) -> dict[str, Any]:
    if not request.samples:
        return {}
    with np.load(request.samples[0], allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _sizes(specs: Sequence[TensorSpec], sample: Mapping[str, Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for spec in specs:
        for axis, dim in enumerate(spec.shape):
            if not isinstance(dim, str) or dim in sizes:
                continue
            array = sample.get(spec.name)
            if array is not None and array.ndim == len(spec.shape) and array.shape[axis] > 1:
                sizes[dim] = array.shape[axis]
            else:
                base, step = (_FIRST_AXIS, 1) if axis == 0 else (_OTHER_AXES, _STEP)
                taken = set(sizes.values())
                sizes[dim] = next(size for size in range(base, base + step * len(taken) + 1, step) if size not in taken)
    return sizes


def _example(
    spec: TensorSpec, sizes: Mapping[str, int], sample: Mapping[str, Any], generator: torch.Generator
) -> torch.Tensor:
    shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)
    array = sample.get(spec.name)
    if array is not None and array.shape == shape and str(array.dtype) == spec.dtype:
        return torch.from_numpy(np.ascontiguousarray(array))
    dtype = _DTYPES[spec.dtype]
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype)
    # Integers are mostly places in a table: 0 is in each.
    return torch.zeros(shape, dtype=dtype)
