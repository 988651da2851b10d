"""What the tests of the report look at: a page as a browser reads it, a model with names that would like to be markup."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HOSTILE = '</title></svg><script>alert("it\'s me")</script>&amp;\u202e'


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and that they are closed in order."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        """Text, and the element that it stands in."""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements
                if name == tag and (not class_ or class_ in (attributes.get("class") or "").split())]  # fmt: skip

    def text(self, tag: str = "") -> str:
        return "\n".join(text for where, text in self.texts if not tag or where == tag)


def model() -> onnx.ModelProto:
    """x -> Conv -> BatchNormalization -> Identity twice -> Relu -> If (Relu, or Neg and Relu) -> y, the Conv of a hostile name."""

    def branch(name: str, *operators: str) -> onnx.GraphProto:
        names = ["r", *(f"{name}{place}" for place in range(len(operators)))]
        nodes = [helper.make_node(one, [names[place]], [names[place + 1]]) for place, one in enumerate(operators)]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(names[-1], 1, ["N", 8, 4, 4])])

    nodes = [
        helper.make_node("Constant", [], ["limit"], value=numpy_helper.from_array(np.int64(3))),
        helper.make_node("Conv", ["x", "w"], ["c"], name=HOSTILE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "one", "zero", "zero", "one"], ["n"], name="norm"),
        helper.make_node("Identity", ["n"], ["same"]),
        helper.make_node("Identity", ["same"], ["same2"]),
        helper.make_node("Relu", ["same2"], ["r"], name="last"),
        helper.make_node("Greater", ["mode", "limit"], ["which"]),
        helper.make_node(
            "If", ["which"], ["y"], name="choice", then_branch=branch("yes", "Relu"), else_branch=branch("no", "Neg", "Relu")
        ),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    constants = {"w": rng.standard_normal((8, 3, 3, 3)), "one": np.ones(8), "zero": np.zeros(8)}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4]),
         helper.make_tensor_value_info("mode", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 4, 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
