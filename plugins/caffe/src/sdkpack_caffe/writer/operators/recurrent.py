"""LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sdkpack_caffe.writer.draft import Blob, NodeError
from sdkpack_caffe.writer.scope import NodeRules, NodeScope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RULES"]

_GATES: Final = (0, 2, 1, 3)
"""Quarters of ONNX's weights (i, o, f, c) in Caffe's order (i, f, o, g)."""


def lstm(scope: NodeScope) -> list[Blob | None]:
    """LSTM, one a direction, each sequence beginning with a state of 0."""
    import numpy as np

    _check(scope)
    value, (steps, batch, _) = scope.bottom(0), scope.shape(0, 3)
    units = int(scope.attribute("hidden_size"))
    direction = scope.attribute("direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    # Caffe keeps its state from one run to the next; 0 in the first step forgets it.
    marks = np.ones((steps, batch), np.float32)
    marks[0] = 0
    go_on = scope.draft.constant(marks, f"{scope.name}_cont")
    turned = range(steps - 1, -1, -1)
    rows, last = [], []
    for number, back in enumerate(backwards):
        source = scope.choose(value, 0, turned) if back else value
        found = scope.add("LSTM", [source, go_on], (steps, batch, units), "lstm", weights=_weights(scope, number),
                          recurrent_param={"num_output": units})  # fmt: skip
        last.append(found)
        rows.append(scope.choose(found, 0, turned) if back and scope.wants(0) else found)
    results: list[Blob | None] = [None, None, None]
    if scope.wants(0):
        wide = [scope.reshape(row, (steps, 1, batch, units)) for row in rows]
        results[0] = wide[0] if len(wide) == 1 else scope.add("Concat", wide, scope.result(), "both")
    if scope.wants(1):
        ends = [scope.part(row, 0, steps - 1, steps) for row in last]
        results[1] = ends[0] if len(ends) == 1 else scope.add("Concat", ends, scope.result(1), "ends",
                                                              concat_param={"axis": 0})  # fmt: skip
    return results


def _check(scope: NodeScope) -> None:
    """Refuses what Caffe's LSTM does not know."""
    steps = scope.shape(0, 3)[0]
    if scope.wants(2):
        raise NodeError("its cell state is used, and Caffe does not show it")
    if scope.attribute("layout", 0) or scope.attribute("input_forget", 0) or scope.attribute("clip"):
        raise NodeError("batch first, coupled gates and clipped cells have no layer")
    usual = ["sigmoid", "tanh", "tanh"]
    given = [str(name.decode() if isinstance(name, bytes) else name).lower()
             for name in scope.attribute("activations") or usual]  # fmt: skip
    if any(name != usual[at % 3] for at, name in enumerate(given)):
        raise NodeError("its activations are fixed in Caffe", got=", ".join(given), expected=", ".join(usual))
    if scope.has(4) and (scope.constant(4, "sequence lengths") != steps).any():
        raise NodeError("sequences of different lengths have no layer")
    for number, what in ((5, "initial state"), (6, "initial cell state"), (7, "peephole weights")):
        if scope.has(number) and scope.constant(number, what).any():
            raise NodeError(f"an {what} other than 0 has no layer" if number < 7 else "peepholes have no layer")


def _weights(scope: NodeScope, number: int) -> list[NDArray[Any]]:
    import numpy as np

    def ordered(values: NDArray[Any]) -> NDArray[Any]:
        quarters = np.split(values, 4)
        return np.concatenate([quarters[at] for at in _GATES])

    inputs = scope.constant(1, "weights")[number]
    hidden = scope.constant(2, "recurrent weights")[number]
    bias = np.zeros(len(inputs), np.float32)
    if scope.has(3):
        bias = scope.constant(3, "biases")[number].reshape(2, -1).sum(axis=0)
    return [ordered(inputs), ordered(bias), ordered(hidden)]


RULES: Final[NodeRules] = {"LSTM": lstm}
