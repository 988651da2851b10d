"""Inputs for recorded and compared runs, made from a model's specs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError, SdkpackError, StepError
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrays", "fit_samples", "given_shapes", "shape_problem"]

Arrays = Mapping[str, "NDArray[Any]"]

# Sizes to try for what neither the model nor the author fixes. Convolutional nets mostly want a multiple of their
# stride, at most 32; 64 leaves something of the picture after it. Larger ones cost time in the reference.
_GUESSES: Final = (64, 32, 16, 128, 224, 512, 8, 1)


def shape_problem(spec: TensorSpec, shape: Sequence[int]) -> str:
    """Why `shape` cannot be one of `spec`; empty where it can."""
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, shape, strict=True)
    )
    return "" if fits else f"does not fit {spec}"


def given_shapes(specs: Sequence[TensorSpec], sample: Mapping[str, Sequence[int]]) -> tuple[TensorSpec, ...]:
    """The specs with the shapes that the author states."""
    return tuple(replace(spec, shape=tuple(sample[spec.name])) if spec.name in sample else spec for spec in specs)


def fit_samples(
    specs: Sequence[TensorSpec],
    run: Callable[[Arrays], Arrays],
    *,
    seed: int,
    what: str,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> tuple[Arrays, Arrays]:
    """Inputs that a model runs with, and what it gave for them: the first guess at open sizes that works.

    Args:
        specs: the inputs; open sizes are guessed.
        run: the model.
        seed: for the numbers.
        what: the model, for messages.
        ranges: least and greatest number, by input.

    Raises:
        StepError: the model runs with none of the guesses.
    """
    from sdkpack.model.sample import make_samples

    failure: SdkpackError | None = None
    for dims in _guesses(specs):
        try:
            inputs = make_samples(specs, seed=seed, dims=dims, ranges=ranges)
            return inputs, run(inputs)
        except ModelError:
            raise
        except SdkpackError as error:
            failure = failure or error
    assert failure is not None
    shapes = ", ".join(f'"{spec.name}" = [{", ".join(str(dim) for dim in spec.shape)}]' for spec in specs)
    raise StepError(
        f"{what} does not run with inputs made for it: {failure.message}",
        hint=f"state sizes that it takes in the recipe, for its model: sample = {{ {shapes} }}",
    ) from failure


def _guesses(specs: Sequence[TensorSpec]) -> Iterator[dict[str, int]]:
    """Sizes by place, as `image.2`.

    A first axis is mostly the batch. Of the others all may be open (a picture), or the last one is (a signal) and the
    rest are batches of a state.
    """
    open_axes = [
        (f"{spec.name}.{axis}", axis == len(spec.shape) - 1)
        for spec in specs
        for axis, dim in enumerate(spec.shape)
        if axis > 0 and not isinstance(dim, int)
    ]
    if not open_axes:
        yield {}
        return
    for guess in _GUESSES:
        yield {name: guess for name, _ in open_axes}
        if not all(last for _, last in open_axes):
            yield {name: guess if last else 1 for name, last in open_axes}
