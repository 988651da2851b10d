"""What tf2onnx leaves to be done for TFLite: names of tensors, and activations that TFLite rounds while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sdkpack.errors import StepError
from sdkpack_tensorflow.tflite_file import Operator

__all__ = ["plain_products", "restore_names", "round_activations"]

_ACTIVATIONS: Final = frozenset({"Relu", "Clip", "Tanh"})
_QUANTIZED_MIN: Final = -128.0
_QUANTIZED_MAX: Final = 127.0
_AXES_ARE_INPUT: Final = 18
"""From this opset on ReduceMin and ReduceMax take their axes as an input."""


def restore_names(model: Any, operators: Sequence[Operator]) -> None:
    """Gives the names of TFLite's tensors to the tensors that hold their values. Changes `model`.

    Where TFLite's operator has a bias or an activation inside, tf2onnx gives its name to the first of several ONNX
    operators; a comparison by name would take the value before the activation for the one behind it.
    """
    uses = _uses(model.graph)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    for operator in operators:
        steps = [_ACTIVATIONS] if operator.activation else []
        if operator.kind == "FULLY_CONNECTED" and len(operator.inputs) > 2:  # input, weights, bias
            steps.insert(0, frozenset({"Add"}))
        if not steps or not operator.outputs or operator.outputs[0] in fixed:
            continue
        name = operator.outputs[0]
        if name not in uses.made:
            continue
        last = name
        for kinds in steps:
            users = uses.users.get(last, [])
            if len(users) == 1 and users[0].op_type in kinds and users[0].output[0] not in fixed:
                last = users[0].output[0]
        _rename(uses, name, f"{name}/partial")
        if last != name and last not in fixed:
            _rename(uses, last, name)


class _Uses:
    """Who makes and who takes each tensor of a graph."""

    def __init__(self, graph: Any) -> None:
        self.made = {output: node for node in graph.node for output in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)


def _uses(graph: Any) -> _Uses:
    return _Uses(graph)


def _rename(uses: _Uses, old: str, new: str) -> None:
    node = uses.made.pop(old)
    node.output[list(node.output).index(old)] = new
    uses.made[new] = node
    users = uses.users.pop(old, [])
    for user in users:
        for index, name in enumerate(user.input):
            if name == old:
                user.input[index] = new
    if users:
        uses.users[new] = users


def plain_products(model: Any, operators: Sequence[Operator]) -> None:
    """Fully connected layers with 8-bit weights multiply floats by floats, nothing rounded. Changes `model`.

    tf2onnx rounds some of their inputs, over all rows at once, which TFLite does not. And the weights are written as
    floats, at four times their size: onnxruntime 1.32 makes MatMulNBits of DequantizeLinear and MatMul, which rounds
    activations in a way of its own (an error of 6e-3 where the plain product has 3e-7).
    """
    graph = model.graph
    weights = {operator.inputs[1] for operator in operators if operator.hybrid}
    _without_dynamic_quantization(graph)
    values = {initializer.name: initializer for initializer in graph.initializer}
    back = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    sources = {name: node.input[0] for name, node in back.items()}
    for node in list(graph.node):
        if node.op_type not in ("MatMul", "Gemm") or not _is_hybrid(node, sources, weights):
            continue
        made = back.pop(node.input[1], None)
        if made is not None and made.input[0] in values:
            graph.initializer.append(_dequantized(made, values))
            graph.node.remove(made)


def _dequantized(node: Any, values: dict[str, Any]) -> Any:
    import numpy as np
    from onnx import numpy_helper

    integers, scale = (numpy_helper.to_array(values[name]) for name in node.input[:2])
    zero = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 else np.zeros_like(scale)
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [1] * integers.ndim
    if scale.ndim:
        shape[axis] = -1
    steps = integers.astype(np.float32) - zero.astype(np.float32).reshape(shape)
    return numpy_helper.from_array(steps * scale.reshape(shape).astype(np.float32), node.output[0])


def round_activations(model: Any, operators: Sequence[Operator], opset: int) -> int:
    """Rounds the activations of layers whose weights alone are stored as 8-bit integers, as TFLite does.

    TFLite measures the least and the greatest activation, zero included, lays 255 steps over that range, and rounds to
    them: over each image for a convolution, over each pixel for one of 1 x 1 without strides, over each row in a fully
    connected layer. What follows is the same sum whether integers or these rounded numbers are multiplied. Measured
    against LiteRT's XNNPACK kernels, its default, layer by layer: they agree within 4e-7.

    Returns:
        The number of layers.

    Raises:
        StepError: layers are not found again.
    """
    weights = {operator.inputs[1] for operator in operators if operator.hybrid}
    if not weights:
        return 0
    graph = model.graph
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    sizes = {initializer.name: list(initializer.dims) for initializer in graph.initializer}
    rounded: dict[tuple[str, str], str] = {}
    nodes: list[Any] = []
    done = 0
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and _is_hybrid(node, sources, weights):
            over = _range_of(node, sizes.get(sources.get(node.input[1], ""), []))
            if (node.input[0], over) not in rounded:
                made = _rounding(node.input[0], over, opset=opset, number=len(rounded))
                nodes += made
                rounded[node.input[0], over] = made[-1].output[0]
            node.input[0] = rounded[node.input[0], over]
            done += 1
        nodes.append(node)
    if done < sum(operator.hybrid for operator in operators):
        raise StepError("layers with 8-bit weights are not found again", hint="convert.with.dynamic_range = false")
    _write(graph, nodes)
    return done


def _without_dynamic_quantization(graph: Any) -> None:
    """tf2onnx rounds the input of some fully connected layers already, over all rows at once, which TFLite does not."""
    made = {output: node for node in graph.node for output in node.output}
    uses = _Uses(graph)
    dead = []
    for node in graph.node:
        if node.op_type != "DynamicQuantizeLinear":
            continue
        for back in uses.users.get(node.output[0], []):
            if back.op_type == "DequantizeLinear":
                for user in uses.users.get(back.output[0], []):
                    places = [place for place, name in enumerate(user.input) if name == back.output[0]]
                    for place in places:
                        user.input[place] = node.input[0]
                dead.append(made[back.output[0]])
        dead.append(node)
    for node in dead:
        graph.node.remove(node)


def _write(graph: Any, nodes: list[Any]) -> None:
    import numpy as np
    from onnx import numpy_helper

    del graph.node[:]
    graph.node.extend(nodes)
    for name, value in _CONSTANTS.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), f"{_PREFIX}/{name}"))
    for name, axes in _AXES.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{_PREFIX}/{name}"))


def _range_of(node: Any, weight: list[int]) -> str:
    """Over what one range is laid. NCHW: tf2onnx has turned the weights to (out, in, height, width)."""
    if node.op_type != "Conv":
        return "row"
    strides = [list(attribute.ints) for attribute in node.attribute if attribute.name == "strides"]
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    plain = weight[2:] == [1, 1] and strides in ([], [[1, 1]]) and groups in ([], [1])
    return "pixel" if plain else "image"


_PREFIX: Final = "dynamic_range"
_AXES: Final = {"image": [1, 2, 3], "pixel": [1], "row": [-1]}
_CONSTANTS: Final = {
    "zero": 0.0, "low": _QUANTIZED_MIN, "high": _QUANTIZED_MAX, "steps": _QUANTIZED_MAX - _QUANTIZED_MIN,
    "least": 1e-30,
}  # fmt: skip


def _is_hybrid(node: Any, dequantized: dict[str, str], weights: set[str]) -> bool:
    name = node.input[1]
    return name.removesuffix("_dequant") in weights or dequantized.get(name) in weights


def _rounding(source: str, over: str, *, opset: int, number: int) -> list[Any]:
    """x -> (clip(round(x / step) + zero) - zero) * step; zero is the integer that stands for 0."""
    from onnx import helper

    nodes: list[Any] = []

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{_PREFIX}/{number}/{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(name: str) -> str:
        return f"{_PREFIX}/{name}"

    def extreme(kind: str) -> str:
        if opset < _AXES_ARE_INPUT:
            return add(kind, [source], axes=_AXES[over], keepdims=1)
        return add(kind, [source, constant(over)], keepdims=1)

    least = add("Min", [extreme("ReduceMin"), constant("zero")])
    greatest = add("Max", [extreme("ReduceMax"), constant("zero")])
    # A range of nothing but zeros would divide by zero.
    span = add("Max", [add("Sub", [greatest, least]), constant("least")])
    inverse = add("Div", [constant("steps"), span])
    zero = add("Round", [add("Clip", [add("Sub", [constant("low"), add("Mul", [least, inverse])]), constant("low"),
                                      constant("high")])])  # fmt: skip
    shifted = add("Add", [add("Round", [add("Mul", [source, inverse])]), zero])
    integers = add("Clip", [shifted, constant("low"), constant("high")])
    add("Div", [add("Sub", [integers, zero]), inverse])
    return nodes
