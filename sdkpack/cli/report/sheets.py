"""A model's graphs as what a picture shows of them: boxes, what flows between them, what is said of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sdkpack.cli.report.kinds import TERMINAL, Kind, kind_of

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

__all__ = ["Box", "Sheet", "sheets"]

_GRAPH, _GRAPHS = 5, 10
"""AttributeProto.AttributeType of one graph, and of several."""
_PLAIN: Final = frozenset({1, 2, 3, 6, 7})
"""Those that fit into a line: a number, a text, several numbers."""
_MOST_LINES: Final = 8
_LONGEST: Final = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node, or a place where values enter or leave."""

    label: str
    detail: str = ""
    """A second line: what its subgraphs hold."""
    kind: Kind
    says: str
    """Everything known of it, in lines."""
    names: tuple[str, str] = ("", "")
    """What to know it by in the other model: its first output, and its own name; "" where it has none."""
    form: tuple[str, ...] = ()
    """Attributes, what it makes first, and how many values it reads: a node whose form differs was changed."""
    opens: tuple[str, ...] = ()
    """Keys of the sheets of its subgraphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One graph: the model's own, a branch, the body of a loop, or a function."""

    key: str
    """To know it by in its model; a function's is the same in another."""
    title: str
    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]
    """From box to box, each once; values flow from a lower index to a higher one."""
    node_count: int
    constant_count: int
    """Constant nodes, which are not drawn: what reads them says so."""


def sheets(model: bytes) -> tuple[Sheet, ...]:
    """The model's own graph first, then those inside it in their order, then its functions.

    Raises:
        ModelError: it is no ONNX model.
    """
    from sdkpack.model.load import parse_model

    proto = parse_model(model).proto
    proto = _with_shapes(proto)
    functions = {(one.domain, one.name) for one in proto.functions}
    found = list(_Reader(functions=functions).read(proto.graph, key="main", title="main graph"))
    for function in proto.functions:
        reader = _Reader(functions=functions)
        key = _function_key(function.domain, function.name)
        found += reader.read(function, key=key, title=f"function {function.name}")
    return tuple(found)


def _with_shapes(proto: ModelProto) -> ModelProto:
    from onnx import shape_inference

    try:
        return shape_inference.infer_shapes(proto)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return proto  # the picture says what the file says


def _function_key(domain: str, name: str) -> str:
    return f"function {domain}.{name}"


@dataclass(slots=True)
class _Values:
    """Names that can be seen in a graph, its own and those around it."""

    types: dict[str, str] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def within(self) -> _Values:
        return _Values(types=dict(self.types), constants=set(self.constants))

    def line(self, name: str) -> str:
        what = " ".join(part for part in (self.types.get(name, ""), name in self.constants and "constant") if part)
        return f"{_short(name)}  {what}".rstrip()


@dataclass(frozen=True, slots=True)
class _Reader:
    functions: set[tuple[str, str]]

    def read(self, graph: GraphProto | Any, *, key: str, title: str, values: _Values | None = None) -> Iterator[Sheet]:
        """The graph's sheet, then those of its subgraphs. A function has names where a graph has typed values."""
        values = values.within() if isinstance(values, _Values) else _Values()
        _declare(graph, values)
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        entering = _entering(graph, nodes, values)
        leaving = [_name(value) for value in graph.output]
        boxes = [_terminal("input", name, values) for name in entering]
        made = {name: place for place, name in enumerate(entering)}
        edges: dict[tuple[int, int], None] = {}
        inner: list[tuple[str, str, Any]] = []
        for node in nodes:
            place = len(boxes)
            edges |= dict.fromkeys((made[name], place) for name in _reads(node) if name in made)
            below = [(f"{key}/{place}.{name}", name, body) for name, body in _bodies(node)]
            boxes.append(self._box(node, below, values))
            inner += [(where, f"{title} / {node.op_type} {_short(node.name)} / {name}", body)
                      for where, name, body in below]  # fmt: skip
            made |= {name: place for name in node.output if name}
        for name in leaving:
            edges |= {(made[name], len(boxes)): None} if name in made else {}
            boxes.append(_terminal("output", name, values))
        yield Sheet(
            key=key, title=title, boxes=tuple(boxes), edges=tuple(edges), node_count=len(graph.node),
            constant_count=len(graph.node) - len(nodes),
        )  # fmt: skip
        for where, name, body in inner:
            yield from self.read(body, key=where, title=name, values=values)

    def _box(self, node: NodeProto, below: Sequence[tuple[str, str, Any]], values: _Values) -> Box:
        label = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        attributes = _attributes(node.attribute)
        lines = [f"{label}  {_short(node.name)}".rstrip(), *attributes]
        lines += _some([f"in   {values.line(name)}" for name in node.input if name])
        lines += _some([f"out  {values.line(name)}" for name in node.output if name])
        lines += [f"{name}: {_counted(body)}" for _, name, body in below]
        opens = [where for where, _, _ in below]
        if (node.domain, node.op_type) in self.functions:
            opens.append(_function_key(node.domain, node.op_type))
        return Box(
            label=_short(label, 28), says="\n".join(lines), opens=tuple(opens),
            detail=_short(", ".join(f"{name.removesuffix('_branch')} {len(body.node)}" for _, name, body in below), 36),
            kind=kind_of("If" if opens else node.op_type, "" if opens else node.domain),
            names=(next(iter(node.output), ""), node.name),
            form=(*sorted(attributes), *node.output[:1], str(sum(map(bool, node.input)))),
        )  # fmt: skip


def _declare(graph: Any, values: _Values) -> None:
    """Puts what the graph says of its values into `values`."""
    from onnx import helper

    for value in (*getattr(graph, "input", ()), *graph.value_info, *graph.output):
        if not isinstance(value, str):
            values.types[value.name] = _type_text(value.type)
    for node in graph.node:
        if node.op_type == "Constant":
            values.constants.update(node.output)
            for attribute in node.attribute:
                if attribute.name == "value":
                    values.types[node.output[0]] = _tensor_text(attribute.t)
    for tensor in getattr(graph, "initializer", ()):
        values.constants.add(tensor.name)
        values.types[tensor.name] = _tensor_text(tensor)
    for sparse in getattr(graph, "sparse_initializer", ()):
        values.constants.add(sparse.values.name)
        kind = helper.tensor_dtype_to_string(sparse.values.data_type).removeprefix("TensorProto.").lower()
        values.types[sparse.values.name] = f"sparse {kind} {list(sparse.dims)}"


def _entering(graph: Any, nodes: Iterable[NodeProto], values: _Values) -> list[str]:
    """What comes in: inputs without a value of their own, and what a subgraph reads of the graphs around it."""
    own = {name for node in graph.node for name in node.output}
    inputs = [name for name in map(_name, graph.input) if name not in values.constants]
    used = [name for node in nodes for name in _reads(node)]
    used += [_name(value) for value in graph.output]
    outer = [name for name in used if name not in own and name not in values.constants]
    return list(dict.fromkeys([*inputs, *outer]))


def _reads(node: NodeProto) -> Iterator[str]:
    """What a node reads, its subgraphs included."""
    yield from (name for name in node.input if name)
    for _, body in _bodies(node):
        own = {name for inner in body.node for name in inner.output} | {value.name for value in body.input}
        own |= {tensor.name for tensor in body.initializer}
        inner_reads = (name for inner in body.node for name in _reads(inner))
        yield from (name for name in (*inner_reads, *(value.name for value in body.output)) if name not in own)


def _bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    # In an order of their own, since files have any: a pair is told by its place. `then` comes before `else` this way.
    for attribute in sorted(node.attribute, key=lambda one: one.name, reverse=True):
        if attribute.type == _GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == _GRAPHS:
            yield from ((f"{attribute.name}[{place}]", graph) for place, graph in enumerate(attribute.graphs))


def _terminal(role: str, name: str, values: _Values) -> Box:
    says = f"{role}  {values.line(name)}"
    return Box(label=_short(name, 28), kind=TERMINAL, says=says, names=(f"{role} {name}", ""))


# Words ------------------------------------------------------------------------------------------------------------
def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)


def _short(name: str, longest: int = _LONGEST) -> str:
    """The end of a name says more than its beginning."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"     and {more} more"]


def _counted(body: GraphProto) -> str:
    counts: Mapping[str, int] = Counter(node.op_type for node in body.node)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} {count}" for name, count in most[:6])
    return f"{len(body.node)} nodes: {shown}{', ...' if len(most) > 6 else ''}"


def _type_text(kind: Any) -> str:
    which = kind.WhichOneof("value")
    if which not in ("tensor_type", "sparse_tensor_type"):
        return (which or "").removesuffix("_type")
    tensor = getattr(kind, which)
    element = _element(tensor.elem_type)
    if not tensor.HasField("shape"):
        return element
    dims = [_dim(dim) for dim in tensor.shape.dim]
    return f"{element} [{', '.join(dims)}]"


def _dim(dim: Any) -> str:
    if dim.HasField("dim_value"):
        return str(dim.dim_value)
    # So ONNX's shape inference calls sizes that it does not know.
    return "?" if not dim.dim_param or dim.dim_param.startswith("unk__") else _short(dim.dim_param, 24)


def _tensor_text(tensor: Any) -> str:
    return f"{_element(tensor.data_type)} [{', '.join(map(str, tensor.dims))}]"


def _element(number: int) -> str:
    from sdkpack.model.elements import ELEMENTS

    return ELEMENTS[number].name if number in ELEMENTS else "?"


def _attributes(attributes: Iterable[AttributeProto]) -> list[str]:
    from onnx import helper

    lines = []
    for attribute in attributes:
        if attribute.type not in _PLAIN:
            continue
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            shown = value.decode("utf-8", "replace")
        elif isinstance(value, int | float):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
        else:
            shown = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value[:_MOST_LINES])
            shown += ", ..." * (len(value) > _MOST_LINES)
        lines.append(f"{_short(attribute.name, 32)} = {_short(shown, 48)}")
    return _some(lines)
