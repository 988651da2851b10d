"""Open sizes: Caffe has none, so a network is converted for several sizes, and must come out the same each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.prototxt import Network

__all__ = ["Sizes", "merge_trials", "open_planes", "trial_sizes"]

Sizes = tuple[int | str, ...]

_STEPS: Final = (0, 1, 2, 3, 5, 9, 17, 33, 65, 131)
"""Added to the prototxt's own size: odd and even, and far enough apart to differ behind strides of up to 64 in all."""
_UNKNOWN_BASE: Final = 64


def trial_sizes(network: Network, wanted: Mapping[str, Sizes]) -> list[dict[str, tuple[int, ...]]]:
    """Shapes to convert for: one set where nothing is open."""
    given = dict(network.inputs)
    for layer in network.layers:
        if layer.type == "Input" and layer.fields.input_param.shape:
            shapes = layer.fields.input_param.shape
            given |= {top: tuple(shapes[min(at, len(shapes) - 1)].dim) for at, top in enumerate(layer.tops)}
    bases: dict[str, int] = {}
    for name, sizes in wanted.items():
        own = given.get(name, ())
        for axis, size in enumerate(sizes):
            if isinstance(size, str):
                bases.setdefault(size, max(1, own[axis]) if axis < len(own) else _UNKNOWN_BASE)
    rank = {symbol: number for number, symbol in enumerate(bases)}
    steps = _STEPS if bases else (0,)

    def size_of(size: int | str, trial: int) -> int:
        # Symbols take different steps, so that one is not mistaken for another.
        return size if isinstance(size, int) else bases[size] + steps[(trial + 3 * rank[size]) % len(steps)]

    return [
        {name: tuple(size_of(size, trial) for size in sizes) for name, sizes in wanted.items()}
        for trial in range(len(steps))
    ]


def open_planes(wanted: Mapping[str, Sizes]) -> bool:
    """Whether heights or widths are open, not only the batch."""
    return any(isinstance(size, str) for sizes in wanted.values() for size in sizes[2:])


def merge_trials(
    models: Sequence[Any], trials: Sequence[Mapping[str, tuple[int, ...]]], wanted: Mapping[str, Sizes], where: str
) -> Any:
    """The model with names in place of the sizes that are open.

    Raises:
        ModelError: a node or a constant depends on an open size.
    """
    first = models[0].graph
    for other in models[1:]:
        for own, its in ((first.node, other.graph.node), (first.initializer, other.graph.initializer)):
            differs = next((a.name for a, b in zip(own, its, strict=False) if a != b), None)
            if differs is not None or len(own) != len(its):
                raise ModelError(f"the network needs fixed sizes: {differs or 'its layers'!r} depends on an open one",
                                 hint="give sizes in convert.with.shapes", where=where)  # fmt: skip
    symbols = {size: (name, axis) for name, sizes in wanted.items() for axis, size in enumerate(sizes)
               if isinstance(size, str)}  # fmt: skip
    for value in first.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, wanted.get(value.name, ()), strict=False):
            if isinstance(size, str):
                dim.dim_param = size
    for number, value in enumerate(first.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            found = [model.graph.output[number].type.tensor_type.shape.dim[axis].dim_value for model in models]
            if len(set(found)) > 1:
                same = (symbol for symbol, (name, at) in symbols.items()
                        if [trial[name][at] for trial in trials] == found)  # fmt: skip
                dim.dim_param = str(next(same, f"{value.name}_{axis}"))
    return models[0]
