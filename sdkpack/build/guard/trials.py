"""Inputs that a model is tried with before and after a pass: several numbers, sizes and ways through its branches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.guard.judges import Run
from sdkpack.build.steps.samples import Arrays, fit_samples
from sdkpack.compare import compare
from sdkpack.errors import InterruptedRunError, SdkpackError
from sdkpack.model.sample import make_samples
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Trial", "Trials", "make_trials"]

_MOST: Final = 16
_SIZES: Final = 2
"""Further sizes to find for each symbol."""
_NUDGE: Final = 1 + 2.0**-22
"""Four units in the last place of float32."""
_FACTOR: Final = 10.0
_FEW_ELEMENTS: Final = 4
"""An input of so few integers is a switch or a length rather than data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Inputs, and what the model gives for them."""

    what: str
    """In what it differs from the first one: `seed 1`, `N = 2`."""
    inputs: Arrays
    outputs: Arrays
    floors: Mapping[str, float] = field(default_factory=dict)
    """By output, the normalised error that the least change of the inputs makes, `_FACTOR` times: what a saturated
    function does to the last bit of its input is no pass's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """All trials of one model."""

    rows: tuple[Trial, ...]
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By symbol, the sizes that were tried."""


def make_trials(
    specs: Sequence[TensorSpec],
    run: Run,
    *,
    seed: int,
    real: Sequence[Arrays] = (),
    ranges: Mapping[str, Sequence[float]] | None = None,
    numbers: Sequence[float] = (),
    what: str,
) -> Trials:
    """Trials that the model itself runs with; what it refuses is left out.

    Args:
        specs: the model's inputs.
        run: the model.
        seed: for made numbers.
        real: the author's samples, tried first.
        ranges: least and greatest of made numbers, by input.
        numbers: what comparisons in the model ask for; given to small integer inputs.
        what: the model, for messages.

    Raises:
        StepError: no input can be made that the model runs with.
    """
    rows = [Trial(what=f"sample {number}", inputs=arrays, outputs=run(arrays)) for number, arrays in enumerate(real)]
    if not rows:
        inputs, outputs = fit_samples(specs, run, seed=seed, what=what, ranges=ranges)
        rows.append(Trial(what="made inputs", inputs=inputs, outputs=outputs))
    maker = _Maker(specs, run, seed, ranges, rows[0].inputs)
    sizes: dict[str, tuple[int, ...]] = {}
    for symbol, size in maker.symbols().items():
        found = list(maker.sized(symbol, size))
        rows += found
        sizes[symbol] = (size, *(int(trial.what.rpartition(" ")[2]) for trial in found))
    rows += maker.others(numbers)
    return Trials(rows=tuple(replace(row, floors=_floors(row, run)) for row in rows[:_MOST]), sizes=sizes)


def _floors(trial: Trial, run: Run) -> dict[str, float]:
    import numpy as np

    floats = {name: array for name, array in trial.inputs.items() if array.dtype == np.float32}
    if not floats:
        return {}
    try:
        moved = run({**trial.inputs, **{name: (array * _NUDGE).astype(np.float32) for name, array in floats.items()}})
    except InterruptedRunError:
        raise
    except SdkpackError:
        return {}
    found = {}
    for name, array in trial.outputs.items():
        error = compare(moved[name], array).normalized_error if array.dtype.kind == "f" else 0.0
        found[name] = _FACTOR * error if math.isfinite(error) else 0.0
    return found


@dataclass(frozen=True, slots=True)
class _Maker:
    specs: Sequence[TensorSpec]
    run: Run
    seed: int
    ranges: Mapping[str, Sequence[float]] | None
    first: Arrays

    def symbols(self) -> dict[str, int]:
        """Open dimensions and the size that each has in the first trial; unnamed ones by their place."""
        found: dict[str, int] = {}
        for spec in self.specs:
            for axis, dim in enumerate(spec.shape):
                if not isinstance(dim, int):
                    name = f"{spec.name}.{axis}" if dim == "?" else dim
                    found.setdefault(name, int(self.first[spec.name].shape[axis]))
        return found

    def sized(self, symbol: str, size: int) -> Iterator[Trial]:
        """The first few other sizes of `symbol` that the model runs with."""
        count = 0
        for other in dict.fromkeys((2 * size, size + 1, size // 2, 1, 3)):
            if other < 1 or other == size:
                continue
            trial = self._tried(f"{symbol} = {other}", self._made({symbol: other}))
            if trial is not None:
                yield trial
                count += 1
            if count == _SIZES:
                return

    def others(self, numbers: Sequence[float]) -> Iterator[Trial]:
        """Other numbers, zeros, and values of small integer inputs that decide something."""
        import numpy as np

        rows: list[tuple[str, Arrays]] = [(f"seed {self.seed + 1}", self._made({}, seed=self.seed + 1))]
        floats = [spec.name for spec in self.specs if self.first[spec.name].dtype.kind == "f"]
        if floats and not self.ranges:
            rows.append(("zeros", {**self.first, **{name: np.zeros_like(self.first[name]) for name in floats}}))
        for spec in self.specs:
            array = self.first[spec.name]
            if array.dtype.kind == "b":
                rows += [(f"{spec.name} = {value}", self._with(spec.name, np.full_like(array, value)))
                         for value in (True, False)]  # fmt: skip
            elif array.dtype.kind in "iu" and array.size <= _FEW_ELEMENTS:
                bounds = np.iinfo(array.dtype)
                near = sorted({int(number) + step for number in numbers for step in (0, 1)} | {0, 1})
                rows += [(f"{spec.name} = {value}", self._with(spec.name, np.full_like(array, value)))
                         for value in near if bounds.min <= value <= bounds.max]  # fmt: skip
        for what, arrays in rows:
            trial = self._tried(what, arrays)
            if trial is not None:
                yield trial

    def _with(self, name: str, array: NDArray[Any]) -> Arrays:
        return {**self.first, name: array}

    def _made(self, dims: Mapping[str, int], seed: int | None = None) -> Arrays:
        sizes = {f"{spec.name}.{axis}": int(size)
                 for spec in self.specs for axis, size in enumerate(self.first[spec.name].shape)
                 if not isinstance(spec.shape[axis], int)}  # fmt: skip
        for spec in self.specs:
            for axis, dim in enumerate(spec.shape):
                place = f"{spec.name}.{axis}"
                if dim in dims or place in dims:
                    sizes[place] = dims.get(place, dims.get(str(dim), 0))
        return make_samples(self.specs, seed=self.seed if seed is None else seed, dims=sizes, ranges=self.ranges)

    def _tried(self, what: str, arrays: Arrays) -> Trial | None:
        try:
            return Trial(what=what, inputs=arrays, outputs=self.run(arrays))
        except InterruptedRunError:
            raise
        except SdkpackError:
            return None  # the model does not take it, so nothing has to
