"""DetectionOutput of the SSD fork: boxes from offsets and priors, the best of overlapping ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Value

__all__ = ["RULES"]

_CORNER, _CENTER_SIZE, _CORNER_SIZE = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    batch: int
    boxes: int
    classes: int
    locations: int
    """Sets of boxes: one, or one a class."""
    kept: tuple[int, ...]
    """Classes that are no background."""
    candidates: int
    """Boxes of a class that go into the suppression."""


def detection_output(scope: Scope) -> list[Value]:
    """(1, 1, M, 7) rows of image, class, score, xmin, ymin, xmax, ymax; by class, then by falling score.

    Bottoms: offsets (N, 4 * P * sets), scores (N, P * classes), priors (1, 2, 4 * P). Of each class but the background,
    the best top_k above confidence_threshold are looked at, best first; what overlaps a better one by more than
    nms_threshold goes; of an image's rest the best keep_top_k stay. Nothing found: one row an image, -1 everywhere but
    in its first column. A box with its corners the wrong way round has area 0 in Caffe and is turned in ONNX.
    """
    message = scope.fields.detection_output_param
    values = scope.bottoms(3)
    sizes = _sizes(scope, message, values)
    boxes = _decode(scope, message, values[0], values[2], sizes)
    shape = (sizes.batch, sizes.boxes, sizes.classes)
    scores = scope.emit("Transpose", [scope.reshape(values[1], shape, shape)], _turned(shape), perm=[0, 2, 1])
    images = [_image(scope, message, boxes, scores, sizes, image) for image in range(sizes.batch)]
    rows = images[0] if len(images) == 1 else scope.emit("Concat", images, None, axis=0)
    rows = _or_nothing(scope, rows, sizes.batch)
    return [scope.emit("Reshape", [rows, scope.ints([1, 1, -1, 7], "shape")], None)]


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[2], shape[1])


def _sizes(scope: Scope, message: Any, values: tuple[Value, ...]) -> _Sizes:
    offsets, scores = (scope.shape(value, 2, 3, 4) for value in values[:2])
    priors = scope.shape(values[2], 3)
    classes = int(message.num_classes)
    locations = 1 if message.share_location else classes
    boxes = priors[-1] // 4
    columns = [_columns(shape) for shape in (offsets, scores)]
    if (
        priors[:2] != (1, 2) or classes < 1
        or columns != [boxes * locations * 4, boxes * classes]
    ):  # fmt: skip
        wanted = f"[N, {boxes * locations * 4}], [N, {boxes * classes}], [1, 2, {boxes * 4}]"
        found = f"{[*offsets]}, {[*scores]}, {[*priors]}"
        raise LayerError("its bottoms do not belong together", got=found, expected=wanted)
    if message.nms_param.eta != 1:
        raise LayerError(
            "suppression with a changing threshold has no ONNX operator", got=f"eta {message.nms_param.eta:g}"
        )
    kept = tuple(number for number in range(classes) if number != message.background_label_id)
    if not kept:
        raise LayerError("it has no class beside the background", got=str(classes))
    top = message.nms_param.top_k if message.nms_param.HasField("top_k") else -1
    return _Sizes(batch=offsets[0], boxes=boxes, classes=classes, locations=locations, kept=kept,
                  candidates=min(top, boxes) if top > 0 else boxes)  # fmt: skip


def _columns(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape[1:]:
        count *= size
    return count


def _decode(scope: Scope, message: Any, offsets: Value, priors: Value, sizes: _Sizes) -> Value:
    """Corners of all boxes, (N, sets, P, 4)."""
    shape = (sizes.batch, sizes.boxes, sizes.locations, 4)
    delta = scope.emit("Transpose", [scope.reshape(offsets, shape, shape)],
                       (sizes.batch, sizes.locations, sizes.boxes, 4), perm=[0, 2, 1, 3])  # fmt: skip
    rows = scope.reshape(priors, (2, sizes.boxes, 4), (2, sizes.boxes, 4))
    prior = _pick(scope, rows, 0, sizes)
    if not message.variance_encoded_in_target:
        delta = scope.binary("Mul", delta, _pick(scope, rows, 1, sizes))
    if message.code_type == _CORNER:
        return scope.binary("Add", prior, delta)
    low, high = _halves(scope, prior)
    extent = scope.binary("Sub", high, low)
    if message.code_type == _CORNER_SIZE:
        twice = scope.emit("Concat", [extent, extent], (*(extent.shape or ())[:-1], 4), axis=-1)
        return scope.binary("Add", prior, scope.binary("Mul", delta, twice))
    if message.code_type != _CENTER_SIZE:
        raise LayerError("no such code_type", got=str(message.code_type))
    half = scope.scalar(0.5, "half")
    place, growth = _halves(scope, delta)
    middle = scope.binary("Mul", scope.binary("Add", low, high), half)
    centre = scope.binary("Add", scope.binary("Mul", place, extent), middle)
    reach = scope.binary("Mul", scope.binary("Mul", scope.emit("Exp", [growth], growth.shape), extent), half)
    corners = [scope.binary("Sub", centre, reach), scope.binary("Add", centre, reach)]
    return scope.emit("Concat", corners, (sizes.batch, sizes.locations, sizes.boxes, 4), axis=-1)


def _pick(scope: Scope, rows: Value, number: int, sizes: _Sizes) -> Value:
    """Row 0 of the priors, the boxes, or row 1, the variances: (P, 4)."""
    return scope.emit("Gather", [rows, scope.constant(number, "row", "int64")], (sizes.boxes, 4), axis=0)


def _halves(scope: Scope, value: Value) -> list[Value]:
    """The first and the last two of the four numbers of a box."""
    shape = (*scope.shape(value)[:-1], 2)
    return scope.emit_many("Split", [value, scope.ints([2, 2], "halves")], [shape, shape], axis=-1)


def _image(scope: Scope, message: Any, boxes: Value, scores: Value, sizes: _Sizes, image: int) -> Value:
    """The rows (M, 7) of one image."""
    count, classes = sizes.candidates, len(sizes.kept)
    index = scope.constant(image, "image", "int64")
    kept = scope.ints(sizes.kept, "classes")
    own = scope.emit("Gather", [scores, index], (sizes.classes, sizes.boxes), axis=0)
    own = scope.emit("Gather", [own, kept], (classes, sizes.boxes), axis=0)
    best, places = scope.emit_many("TopK", [own, scope.ints([count], "k")], [(classes, count)] * 2, axis=1)
    corners = scope.emit("Gather", [boxes, index], (sizes.locations, sizes.boxes, 4), axis=0)
    # One set of boxes a class: every class has its own candidates.
    if sizes.locations == 1:
        flat = scope.reshape(corners, (sizes.boxes, 4), (sizes.boxes, 4))
        chosen = scope.emit("Gather", [flat, places], (classes, count, 4), axis=0)
    else:
        corners = scope.emit("Gather", [corners, kept], (classes, sizes.boxes, 4), axis=0)
        deep = scope.emit("Unsqueeze", [places, scope.ints([2], "axis")], (classes, count, 1), floats=False)
        deep = scope.emit("Expand", [deep, scope.ints([classes, count, 4], "shape")], (classes, count, 4), floats=False)
        chosen = scope.emit("GatherElements", [corners, deep], (classes, count, 4), axis=1)
    return _suppress(scope, message, chosen, best, kept, image)


def _suppress(scope: Scope, message: Any, boxes: Value, scores: Value, kept: Value, image: int) -> Value:
    """Rows of what remains of (classes, k, 4) boxes with (classes, k) scores; the classes are ONNX's batch."""
    classes, count = scope.shape(scores)
    alone = scope.emit("Unsqueeze", [scores, scope.ints([1], "axis")], (classes, 1, count))
    overlap = scope.constant([message.nms_param.nms_threshold], "overlap")
    inputs = [boxes, alone, scope.ints([count], "most"), overlap]
    if message.HasField("confidence_threshold"):
        inputs.append(scope.constant([message.confidence_threshold], "confidence"))
    found = scope.emit("NonMaxSuppression", inputs, None, floats=False)
    where = scope.emit("Gather", [found, scope.ints([0, 2], "columns")], None, floats=False, axis=1)
    score = scope.emit("GatherND", [scores, where], None)
    if message.keep_top_k >= 0:
        where, score = _best(scope, where, score, message.keep_top_k)
    box = scope.emit("GatherND", [boxes, where], None)
    row = scope.emit("Gather", [where, scope.ints([0], "first")], None, floats=False, axis=1)
    label = scope.emit("Cast", [scope.emit("Gather", [kept, row], None, floats=False, axis=0)], None, to=1)
    column = scope.emit("Unsqueeze", [score, scope.ints([1], "axis")], None)
    number = scope.binary("Mul", label, scope.scalar(0, "zero"))
    if image:
        number = scope.binary("Add", number, scope.scalar(image, "number"))
    return scope.emit("Concat", [number, label, column, box], None, axis=1)


def _best(scope: Scope, where: Value, score: Value, most: int) -> tuple[Value, Value]:
    """The best `most` rows, in the order that they had."""
    size = scope.emit("Shape", [score], (1,), floats=False)
    count = scope.emit("Min", [size, scope.ints([most], "most")], (1,), floats=False)
    _, places = scope.emit_many("TopK", [score, count], [None, None], axis=0)
    order, _ = scope.emit_many("TopK", [places, count], [None, None], axis=0, largest=0)
    where = scope.emit("Gather", [where, order], None, floats=False, axis=0)
    return where, scope.emit("Gather", [score, order], None, axis=0)


def _or_nothing(scope: Scope, rows: Value, batch: int) -> Value:
    """The rows, or where there are none a row of -1 for each image."""
    nothing = scope.constant([[image, *[-1.0] * 6] for image in range(batch)], "nothing")
    size = scope.emit("Gather", [scope.emit("Shape", [rows], (2,), floats=False), scope.ints([0], "first")], (1,),
                      floats=False, axis=0)  # fmt: skip

    empty = scope.emit("Equal", [size, scope.ints([0], "zero")], (1,), floats=False)
    end = scope.emit("Where", [empty, scope.ints([batch], "images"), scope.ints([0], "none")], (1,), floats=False)
    extra = scope.emit("Slice", [nothing, scope.ints([0], "start"), end, scope.ints([0], "axis")], None)
    return scope.emit("Concat", [rows, extra], None, axis=0)


RULES: Final[Rules] = {"DetectionOutput": detection_output}
