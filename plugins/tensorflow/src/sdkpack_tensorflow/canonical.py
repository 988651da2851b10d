"""One form for graphs that differ only in the order of their parts and in made-up names.

tf2onnx goes through sets of names, and so in an order that is another one in each process. The same source has to
become the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["make_canonical"]

_MADE_UP: Final = re.compile(r"__\d+(:\d+)?$")
_NUMBERS: Final = re.compile(r"__\d+")


def make_canonical(model: Any) -> None:
    """Orders nodes by what the outputs need, weights by their first use and attributes by name, keeps one of equal
    weights, and numbers made-up names in that order. Changes `model`."""
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    _order(graph)
    _merge_weights(graph, {}, {})
    _Names(fixed).apply(graph)
    model.opset_import.sort(key=lambda opset: opset.domain)


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _needs(node: Any) -> list[str]:
    """What a node takes, with what its bodies take from outside."""
    needs = list(node.input)
    for body in _bodies(node):
        for inner in body.node:
            needs += _needs(inner)
        needs += [value.name for value in body.output]
    return needs


def _order(graph: Any) -> None:
    for node in graph.node:
        node.attribute.sort(key=lambda attribute: attribute.name)
        for body in _bodies(node):
            _order(body)
    nodes = list(graph.node)
    made = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    needs = [_needs(node) for node in nodes]
    order = _reachable([value.name for value in graph.output], made, needs)
    # What no output needs comes last, as it stands.
    order += [index for index in range(len(nodes)) if index not in set(order)]
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)
    first: dict[str, int] = {}
    for index in order:
        for name in needs[index]:
            first.setdefault(name, len(first))
    graph.initializer.sort(key=lambda weight: (first.get(weight.name, len(first)), weight.name))


def _reachable(outputs: list[str], made: dict[str, int], needs: list[list[str]]) -> list[int]:
    """Nodes after those that they need, in the order in which inputs name them; without recursion, graphs are deep."""
    order: list[int] = []
    done: set[int] = set()
    for output in outputs:
        stack = [(made[output], False)] if output in made else []
        while stack:
            index, ready = stack.pop()
            if index in done:
                continue
            if ready:
                done.add(index)
                order.append(index)
                continue
            stack.append((index, True))
            stack += [(made[name], False) for name in reversed(needs[index]) if name in made and made[name] not in done]
    return order


def _merge_weights(graph: Any, kept: dict[bytes, str], renamed: dict[str, str]) -> None:
    """The first of equal weights stands for all; a body's may be those of the graph around it."""
    kept, renamed = dict(kept), dict(renamed)
    outputs = {value.name for value in graph.output}
    unique = []
    for weight in graph.initializer:
        name, weight.name = weight.name, ""
        content = hashlib.sha256(weight.SerializeToString(deterministic=True)).digest()
        weight.name = name
        if content in kept and name not in outputs:
            renamed[name] = kept[content]
            continue
        kept.setdefault(content, name)
        unique.append(weight)
    weights = [type(weight).FromString(weight.SerializeToString()) for weight in unique]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for body in _bodies(node):
            _merge_weights(body, kept, renamed)


class _Names:
    """New names for those that hold a number of tf2onnx's, by their order; all others stay."""

    def __init__(self, fixed: set[str]) -> None:
        self._fixed = fixed
        self._constants: set[str] = set()
        self._new: dict[str, str] = {}
        self._nodes = 0

    def _of(self, name: str) -> str:
        if name in self._fixed or not _MADE_UP.search(name):
            return name
        if name not in self._new:
            port = name.rpartition(":")[2] if re.search(r":\d+$", name) else ""
            base = _NUMBERS.sub("", name.removesuffix(f":{port}") if port else name)
            if name in self._constants:
                base = "const"
            self._new[name] = f"{base}__{len(self._new)}" + (f":{port}" if port else "")
        return self._new[name]

    def apply(self, graph: Any) -> None:
        """Renames in the order in which names are used."""
        self._constants |= {weight.name for weight in graph.initializer}
        for node in graph.node:
            node.input[:] = [self._of(name) for name in node.input]
            node.output[:] = [self._of(name) for name in node.output]
            if _MADE_UP.search(node.name):
                node.name = f"{_NUMBERS.sub('', node.name)}__n{self._nodes}"
                self._nodes += 1
            for body in _bodies(node):
                body.name = _NUMBERS.sub("", body.name)
                self.apply(body)
        for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
            value.name = self._of(value.name)
