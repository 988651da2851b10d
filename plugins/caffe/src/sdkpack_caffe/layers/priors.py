"""PriorBox of the SSD fork: the boxes that a detector's offsets are relative to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES"]

_MAX_BOXES: Final = 1 << 22


def prior_box(scope: Scope) -> list[Value]:
    """Boxes around each cell of the feature map, a constant (1, 2, 4 * boxes): corners in 0..1, then variances.

    For each min_size: a square of it, a square of sqrt(min * max) where there is a max_size, then for every aspect
    ratio other than 1 (and with `flip` its inverse) width min * sqrt(ratio) and height min / sqrt(ratio). Cells are
    `step` pixels apart, else image size / map size; the first centre lies at `offset` (0.5) steps. Sizes are whole
    numbers, as the reference code has them.
    """
    import numpy as np

    message = scope.fields.prior_box_param
    cells, image = (scope.shape(value, 4)[2:] for value in scope.bottoms(2))
    height, width = _pair(message, "img", "size") or image
    steps = _pair(message, "step", "") or (height / cells[0], width / cells[1])
    sizes = np.asarray(_sizes(message), np.float64)
    if cells[0] * cells[1] * len(sizes) > _MAX_BOXES:
        raise LayerError("too many boxes", got=str(cells[0] * cells[1] * len(sizes)), expected=f"at most {_MAX_BOXES}")
    rows, columns = ((np.arange(count) + message.offset) * step for count, step in zip(cells, steps, strict=True))
    boxes = np.empty((*cells, len(sizes), 4))
    boxes[..., 0::2] = columns[None, :, None, None]
    boxes[..., 1::2] = rows[:, None, None, None]
    boxes += np.concatenate([-sizes, sizes], axis=1) / 2
    boxes /= (width, height, width, height)
    if message.clip:
        boxes = boxes.clip(0, 1)
    both = np.stack([boxes.reshape(-1), np.tile(_variances(message), boxes.size // 4)])
    return [scope.constant(both[None], "boxes")]


def _pair(message: Any, name: str, both: str) -> tuple[float, float] | None:
    """A setting for height and width: `name_h` and `name_w`, or one for both."""
    single = f"{name}_{both}" if both else name
    parts = [getattr(message, f"{name}_{letter}") for letter in "hw"]
    if any(parts):
        if min(parts) <= 0:
            raise LayerError(f"{name}_h and {name}_w are both above 0", got=str(parts))
        return parts[0], parts[1]
    value = getattr(message, single)
    return (value, value) if value > 0 else None


def _sizes(message: Any) -> list[tuple[float, float]]:
    """Width and height of each box of a cell, in pixels."""
    smallest, largest = [int(size) for size in message.min_size], [int(size) for size in message.max_size]
    if not smallest or min(smallest) < 1 or (largest and len(largest) != len(smallest)):
        raise LayerError("min_size is at least 1, and max_size is given for each or none", got=f"{smallest}, {largest}")
    ratios: list[float] = [1.0]
    for ratio in message.aspect_ratio:
        if ratio <= 0:
            raise LayerError("an aspect ratio is above 0", got=f"{ratio:g}")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if message.flip else [ratio]
    found: list[tuple[float, float]] = []
    for at, size in enumerate(smallest):
        found.append((size, size))
        if largest:
            if largest[at] <= size:
                raise LayerError("max_size is above min_size", got=f"{largest[at]} and {size}")
            found.append(((size * largest[at]) ** 0.5,) * 2)
        found += [(size * ratio**0.5, size / ratio**0.5) for ratio in ratios[1:]]
    return found


def _variances(message: Any) -> NDArray[Any]:
    import numpy as np

    values = list(message.variance) or [0.1]
    if len(values) not in (1, 4) or min(values) <= 0:
        raise LayerError("variance is one or four values above 0", got=str(values))
    return np.array(values * 4 if len(values) == 1 else values)


RULES: Final[Rules] = {"PriorBox": prior_box}
