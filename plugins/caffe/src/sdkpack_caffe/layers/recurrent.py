"""LSTM, written out step by step."""

from __future__ import annotations

from typing import Final

from sdkpack_caffe.graph import LayerError, Rules, Scope, Shape, Value

__all__ = ["RULES"]

_MAX_STEPS: Final = 1024
"""Each step is a dozen nodes."""


def lstm(scope: Scope) -> list[Value]:
    """c = cont * f * c + i * g and h = o * tanh(c) for each step, with i, f, o = sigmoid and g = tanh of the four
    quarters of W_x x + b + W_s s + W_h (cont * h).

    Bottoms: x (T, N, ...), cont (T, N), which is 0 where a new sequence starts, and perhaps s (N, ...), the same at
    each step. Weights: W_x, b, W_s where there is an s, W_h. State is 0 at the start.
    """
    values = scope.bottoms(2, 3)
    if scope.fields.recurrent_param.expose_hidden:
        raise LayerError("exposed hidden states are not supported")
    shape, marks = scope.shape(values[0], 3, 4, 5), scope.shape(values[1], 2)
    steps, batch, units = shape[0], marks[1], int(scope.fields.recurrent_param.num_output)
    if marks != shape[:2] or steps > _MAX_STEPS or units < 1:
        raise LayerError("its bottoms do not fit", got=f"{list(shape)}, {list(marks)}",
                         expected=f"(T, N, ...) and (T, N), T up to {_MAX_STEPS}")  # fmt: skip
    gates = _from_inputs(scope, values, units)
    again = scope.blob(len(values), (4 * units, units), "hidden weights")
    weight = scope.constant(again.T, "hidden")
    quarters = _steps(scope, gates, (batch, 4 * units), steps)
    keep = _steps(scope, values[1], (batch, 1), steps)
    hidden, cell = None, None
    found = []
    for gate, go_on in zip(quarters, keep, strict=True):
        if hidden is not None:
            past = scope.emit("MatMul", [scope.binary("Mul", hidden, go_on), weight], (batch, 4 * units))
            gate = scope.binary("Add", gate, past)  # noqa: PLW2901
        hidden, cell = _cell(scope, gate, go_on, cell, (batch, units))
        found.append(scope.reshape(hidden, (1, batch, units), (1, batch, units)))
    return [found[0] if steps == 1 else scope.emit("Concat", found, (steps, batch, units), axis=0)]


def _from_inputs(scope: Scope, values: tuple[Value, ...], units: int) -> Value:
    """What x and s give to the gates of all steps, (T, N, 4 * units)."""
    steps, batch = scope.shape(values[0])[:2]
    rows, size = steps * batch, 1
    for dim in scope.shape(values[0])[2:]:
        size *= dim
    flat = scope.reshape(values[0], (rows, size), (rows, size))
    weight = scope.constant(scope.blob(0, (4 * units, size), "input weights"), "input")
    bias = scope.constant(scope.blob(1, (4 * units,), "bias"), "bias")
    wide = (steps, batch, 4 * units)
    gates = scope.reshape(scope.emit("Gemm", [flat, weight, bias], (rows, 4 * units), transB=1), wide, wide)
    if len(values) == 2:
        return gates
    width = 1
    for dim in scope.shape(values[2], 2, 3, 4)[1:]:
        width *= dim
    if scope.shape(values[2])[0] != batch:
        raise LayerError("its static bottom has another batch", got=str(list(scope.shape(values[2]))))
    fixed = scope.constant(scope.blob(2, (4 * units, width), "static weights"), "static")
    flat = scope.reshape(values[2], (batch, width), (batch, width))
    return scope.binary("Add", gates, scope.emit("Gemm", [flat, fixed], (batch, 4 * units), transB=1))


def _steps(scope: Scope, value: Value, shape: Shape, steps: int) -> list[Value]:
    """(T, ...) as T values of `shape`."""
    whole = scope.shape(value)
    parts = [value]
    if steps > 1:
        parts = scope.emit_many("Split", [value, scope.ints([1] * steps, "steps")], [(1, *whole[1:])] * steps, axis=0)
    return [scope.reshape(part, shape, shape) for part in parts]


def _cell(scope: Scope, gate: Value, go_on: Value, cell: Value | None, shape: Shape) -> tuple[Value, Value]:
    """Hidden and cell state after one step."""
    quarter = scope.ints([shape[1]] * 4, "quarters")
    i, f, o, g = scope.emit_many("Split", [gate, quarter], [shape] * 4, axis=1)
    fresh = scope.binary("Mul", scope.emit("Sigmoid", [i], shape), scope.emit("Tanh", [g], shape))
    if cell is not None:
        kept = scope.binary("Mul", scope.binary("Mul", cell, go_on), scope.emit("Sigmoid", [f], shape))
        fresh = scope.binary("Add", fresh, kept)
    return scope.binary("Mul", scope.emit("Sigmoid", [o], shape), scope.emit("Tanh", [fresh], shape)), fresh


RULES: Final[Rules] = {"LSTM": lstm}
