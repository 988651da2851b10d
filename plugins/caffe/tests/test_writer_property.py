"""Random small networks of operators that can be written, there and back again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from plugins.caffe.tests.nets import error, run_onnx
from plugins.caffe.tests.onnx_nets import OPENCV, back, model, written

N = helper.make_node
Shape = tuple[int, ...]


@dataclass
class Net:
    """A network as it grows: its values with their shapes, its weights."""

    draw: Any
    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def put(self, *shape: int, scale: float = 1.0) -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = (self.rng.standard_normal(shape) * scale).astype("f4")
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.constants)}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(N(op, inputs, [name], **attributes))
        self.shapes[name] = shape

    def one(self, *ranks: int) -> tuple[str, Shape] | None:
        """A value so far, of one of these ranks."""
        found = [name for name, shape in self.shapes.items() if not ranks or len(shape) in ranks]
        if not found:
            return None
        name = self.draw(st.sampled_from(found))
        return name, self.shapes[name]


def activation(net: Net) -> None:
    name, shape = net.one() or ("", ())
    # Functions that keep values within bounds, so that rounding does not grow from layer to layer.
    op = net.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "Abs", "Elu", "LeakyRelu", "HardSigmoid", "Softsign"]))
    net.add(op, [name], shape)


def conv(net: Net) -> None:
    found = net.one(4)
    if not found:
        return
    name, (n, c, h, w) = found
    kernel, dilation = net.draw(st.integers(1, 3)), net.draw(st.integers(1, 2))
    stride = net.draw(st.integers(1, 2))
    pads = [net.draw(st.integers(0, 2)) for _ in range(4)]
    group = c if net.draw(st.booleans()) else 1
    outputs = c if group > 1 else net.draw(st.integers(1, 4))
    if dilation == 2:
        pads[2:] = pads[:2]
    reach = dilation * (kernel - 1) + 1
    sizes = [(size + pads[at] + pads[at + 2] - reach) // stride + 1 for at, size in enumerate((h, w))]
    if min(sizes) < 1:
        return
    weights = net.put(outputs, c // group, kernel, kernel, scale=1 / (kernel * (c // group) ** 0.5))
    bias = [net.put(outputs)] if net.draw(st.booleans()) else []
    net.add("Conv", [name, weights, *bias], (n, outputs, *sizes), pads=pads, strides=[stride] * 2, group=group,
            dilations=[dilation] * 2)  # fmt: skip


def pool(net: Net) -> None:
    found = net.one(4)
    if not found:
        return
    name, (n, c, h, w) = found
    kernel, stride = net.draw(st.integers(1, 3)), net.draw(st.integers(1, 3))
    pad = net.draw(st.integers(0, kernel - 1))
    sizes = [(size + 2 * pad - kernel) // stride + 1 for size in (h, w)]
    if min(sizes) < 1:
        return
    op = net.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    more = {"count_include_pad": 1} if op == "AveragePool" and net.draw(st.booleans()) else {}
    net.add(op, [name], (n, c, *sizes), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, **more)


def with_constant(net: Net) -> None:
    name, shape = net.one() or ("", ())
    own = [size if net.draw(st.booleans()) else 1 for size in shape]
    op = net.draw(st.sampled_from(["Add", "Sub", "Mul"]))
    net.add(op, [name, net.put(*own)], shape)


def of_two(net: Net) -> None:
    name, shape = net.one() or ("", ())
    others = [other for other, own in net.shapes.items()
              if len(own) == len(shape) and all(a in (1, b) for a, b in zip(own, shape, strict=True))]  # fmt: skip
    op = net.draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min"]))
    net.add(op, [name, net.draw(st.sampled_from(others))], shape)


def dense(net: Net) -> None:
    found = net.one(2, 3)
    if found:
        name, shape = found
        outputs = net.draw(st.integers(1, 5))
        net.add("MatMul", [name, net.put(shape[-1], outputs, scale=shape[-1] ** -0.5)], (*shape[:-1], outputs))


def move(net: Net) -> None:
    name, shape = net.one() or ("", ())
    order = net.draw(st.permutations(range(len(shape))))
    net.add("Transpose", [name], tuple(shape[axis] for axis in order), perm=list(order))


def flatten(net: Net) -> None:
    name, shape = net.one() or ("", ())
    axis = net.draw(st.integers(0, len(shape)))
    left = int(np.prod(shape[:axis]))
    net.add("Flatten", [name], (left, int(np.prod(shape[axis:]))), axis=axis)


def piece(net: Net) -> None:
    name, shape = net.one() or ("", ())
    axis = net.draw(st.integers(0, len(shape) - 1))
    start = net.draw(st.integers(0, shape[axis] - 1))
    end = net.draw(st.integers(start + 1, shape[axis]))
    net.add("Slice", [name, net.ints(start), net.ints(end), net.ints(axis)],
            (*shape[:axis], end - start, *shape[axis + 1 :]))  # fmt: skip


def join(net: Net) -> None:
    name, shape = net.one() or ("", ())
    axis = net.draw(st.integers(0, len(shape) - 1))
    net.add("Concat", [name, name], (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]), axis=axis)


def mean(net: Net) -> None:
    name, shape = net.one() or ("", ())
    axes = net.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    op = net.draw(st.sampled_from(["ReduceMean", "ReduceMax"]))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    net.add(op, [name], kept, axes=sorted(axes))


def normal(net: Net) -> None:
    name, shape = net.one() or ("", ())
    net.add("Softmax", [name], shape, axis=net.draw(st.integers(0, len(shape) - 1)))


STEPS = [activation, conv, pool, with_constant, of_two, dense, move, flatten, piece, join, mean, normal]


@st.composite
def nets(draw: Any) -> tuple[bytes, dict[str, Any], list[str]]:
    """A model, inputs for it, and its outputs: some of its values, taken further or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    net = Net(draw=draw, rng=rng)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    net.shapes["x"] = shape
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=7)):
        if max(int(np.prod(own)) for own in net.shapes.values()) < 2000:
            step(net)
    made = [name for name in net.shapes if name != "x"] or ["x"]
    outputs = sorted({made[-1], draw(st.sampled_from(made))})
    content = model(net.nodes, {"x": shape}, outputs, net.constants, opset=13)
    return content, {"x": rng.standard_normal(shape).astype("f4")}, outputs


# Sums of some hundred float32 in another order, a few layers deep.
TOLERANCE = 1e-5


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets())
def test_any_network_computes_the_same(found: tuple[bytes, dict[str, Any], list[str]]) -> None:
    content, inputs, outputs = found
    if outputs == ["x"]:
        return
    expected = run_onnx(content, inputs)
    with tempfile.TemporaryDirectory() as folder:
        for params in ({}, OPENCV, {"floor_pooling": "slice"}):
            first = written(Path(folder), content, **params)
            results = back(Path(folder), inputs)
            assert list(results) == outputs
            for name in outputs:
                assert error(results[name], expected[name]) <= TOLERANCE, (name, params, first.prototxt)
