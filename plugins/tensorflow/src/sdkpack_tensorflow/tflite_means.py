"""Averages of 8-bit integers, rounded as TFLite rounds them.

TFLite adds the integers up and rounds the quotient half away from zero; QuantizeLinear rounds half to even. The two
part where an average lies just between two integers, which is one of 64 in an 8 x 8 window, and a classifier's last
layer makes several steps of it.
Source: AveragePool in tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["round_means"]

_POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool"})
_PASSING: Final = frozenset({"Transpose", "Reshape", "Squeeze"})
_NUDGE: Final = 2.0**-12
"""Of a step: above what float32 makes of a sum of 8-bit integers (255 * 2^-24 of it), below half the distance between
two averages of up to 2048 integers."""
_PREFIX: Final = "mean"


def round_means(model: Any) -> int:
    """Moves averages that lie between two integers away from zero before they are rounded. Changes `model`.

    Returns:
        The number of averages.
    """
    graph = model.graph
    values = {initializer.name: initializer for initializer in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    nodes: list[Any] = []
    count = 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and _is_mean(node.input[0], made) and _is_per_tensor(node, values):
            nodes += _nudged(node, values, graph, count)
            node.input[0] = nodes[-1].output[0]
            count += 1
        nodes.append(node)
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
    return count


def _is_mean(name: str, made: dict[str, Any]) -> bool:
    while name in made and made[name].op_type in _PASSING:
        name = made[name].input[0]
    return name in made and made[name].op_type in _POOLS


def _is_per_tensor(node: Any, values: dict[str, Any]) -> bool:
    return len(node.input) > 2 and all(name in values and not list(values[name].dims) for name in node.input[1:3])


def _nudged(node: Any, values: dict[str, Any], graph: Any, number: int) -> list[Any]:
    """x -> x + sign(x + scale * zero_point) * scale * nudge: TFLite's integers include the zero point."""
    import numpy as np
    from onnx import helper, numpy_helper

    scale = float(numpy_helper.to_array(values[node.input[1]]))
    zero = float(numpy_helper.to_array(values[node.input[2]]))

    def constant(name: str, value: float) -> str:
        full = f"{_PREFIX}/{number}/{name}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), full))
        return full

    def step(kind: str, inputs: list[str], name: str) -> Any:
        full = f"{_PREFIX}/{number}/{name}"
        return helper.make_node(kind, inputs, [full], name=full)

    source = node.input[0]
    raw = step("Add", [source, constant("zero", scale * zero)], "raw")
    sign = step("Sign", [raw.output[0]], "sign")
    nudge = step("Mul", [sign.output[0], constant("nudge", scale * _NUDGE)], "part")
    return [raw, sign, nudge, step("Add", [source, nudge.output[0]], "away")]
