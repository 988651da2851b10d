"""The weight split: one model becomes a graph, a blob of weights, and a table that joins them (FORMAT.md, section 8).

The graph is a ModelProto without the moved initializers. Protobuf merges messages that are concatenated, so a
consumer makes a whole model of it by *appending* a `graph { initializer { ... } }` message for each row of the table:
with the data inline, or with an external location and offset of its choice. No ONNX library is needed for that (see
`sdkpack.model.join`), and a graph used by mistake without its weights fails to load instead of computing something
else.

Moved: initializers of the main graph, and its `Constant` nodes with a `value` tensor (some exporters keep all weights
there), from `INLINE_BELOW_BYTES` on, of element types that fill whole bytes. All else stays in the graph: strings,
sub-byte and complex tensors (runtimes do not take them from memory), sparse tensors, subgraphs, functions, training
info, and what nothing reads. External data of tensors that stay is read into the graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.errors import ModelError
from sdkpack.model.elements import ELEMENTS, STRING, element_of, is_external, raw_bytes, tensor_bytes
from sdkpack.model.load import MAX_MODEL_BYTES, LoadedModel
from sdkpack.model.table import TensorEntry
from sdkpack.model.walk import iter_graphs_below, iter_node_lists, iter_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    from sdkpack.model.external import ExternalFolder, FileRange

__all__ = ["INLINE_BELOW_BYTES", "SplitModel", "WeightsBlob", "check_tensors", "split_model"]

INLINE_BELOW_BYTES: Final = 1024
"""Smaller tensors are mostly shapes, axes and scalars, which optimisers want to see in the graph."""

_LARGE_BYTES: Final = 1 << 20
_LARGE_ALIGN: Final = 65536  # the largest page size in use: a runtime can map a large tensor straight from the file
_SMALL_ALIGN: Final = 64  # a cache line, and the widest vector register
_BLOCK: Final = 1 << 20
_MIN_IR_WITH_FREE_INITIALIZERS: Final = 4  # before, each initializer had to be a graph input too


class _InlineData:
    """A tensor's own data, turned into bytes when it is asked for, so that not all are held twice."""

    def __init__(self, tensor: TensorProto, where: str, length: int) -> None:
        self._tensor, self._where, self.length = tensor, where, length

    def blocks(self) -> Iterator[bytes]:
        yield raw_bytes(self._tensor, self._where)


class _FileData:
    """Data in an external file, read a block at a time."""

    def __init__(self, source: FileRange) -> None:
        self._source, self.length = source, source.length

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, self.length, _BLOCK):
            yield self._source.read(start, min(_BLOCK, self.length - start))


_Data = _InlineData | _FileData


@dataclass(frozen=True, slots=True)
class WeightsBlob:
    """The weights as one blob, streamed from where they stand now. Valid while the `ExternalFolder` is open."""

    size_bytes: int
    _pieces: tuple[tuple[int, _Data], ...]
    _folder: ExternalFolder

    def blocks(self) -> Iterator[bytes]:
        """The blob's bytes in order; each block is at most 1 MiB, or one tensor that stood in the model file.

        Raises:
            ExternalDataError: a source file changed on the way. What was written so far must be discarded.
        """
        at = 0
        for offset, data in self._pieces:
            if offset > at:
                yield bytes(offset - at)
            yield from data.blocks()
            at = offset + data.length
        self._folder.check_unchanged()

    def read_all(self) -> bytes:
        """The whole blob in memory; for small models and tests."""
        return b"".join(self.blocks())


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitModel:
    """What a split yields. The same model gives the same bytes, wherever its data stood."""

    graph: bytes
    """A ModelProto without the initializers that `tensors` lists."""
    tensors: tuple[TensorEntry, ...]
    """In the order of the blob, ascending by offset, then name."""
    weights: WeightsBlob


def split_model(
    model: LoadedModel, folder: ExternalFolder, *, inline_below_bytes: int = INLINE_BELOW_BYTES
) -> SplitModel:
    """Splits `model`, which is left as it is.

    Memory: the graph, and a copy of one inline tensor at a time; external data is hashed and streamed by the block.

    Args:
        model: a loaded model; every external tensor is resolved first, also those that stay.
        folder: an open folder for the model's external data (`ExternalFolder(model.folder)`).
        inline_below_bytes: tensors smaller than this stay in the graph.

    Raises:
        ExternalDataError: external data is refused.
        ModelError: a tensor's data does not fit its type and shape, or the graph would be too large.
    """
    source = model.proto
    check_tensors(source)
    moved = _movable(source, inline_below_bytes)
    data = {name: _data_of(tensor, where, folder) for name, where, tensor in moved}
    rows, pieces, size = _lay_out([(name, tensor, data[name]) for name, _, tensor in moved])
    graph = _graph_bytes(source, {name for name, _, _ in moved}, folder)
    return SplitModel(graph=graph, tensors=rows, weights=WeightsBlob(size, pieces, folder))


def check_tensors(model: ModelProto) -> None:
    """Checks every tensor's type, shape and, where the data is inline, its amount.

    Raises:
        ModelError: one does not fit.
    """
    for placed in iter_tensors(model):
        if placed.tensor.data_type == STRING:
            continue
        if placed.tensor.HasField("segment"):
            raise ModelError(f"{placed.where}: segmented tensors are not supported", hint="export the model again")
        expected = tensor_bytes(placed.tensor, placed.where)
        inline = placed.tensor.HasField("raw_data") and not is_external(placed.tensor)
        if inline and len(placed.tensor.raw_data) != expected:
            raw_bytes(placed.tensor, placed.where)


def _movable(model: ModelProto, inline_below: int) -> list[tuple[str, str, TensorProto]]:
    """(name, where, tensor) of what leaves the graph, in the model's order."""
    graph = model.graph
    used = _used_names(graph)
    found = [
        (t.name, f"graph: initializer {t.name!r}", t)
        for t in graph.initializer
        if t.name in used and _fits(t, inline_below)
    ]
    if model.ir_version >= _MIN_IR_WITH_FREE_INITIALIZERS:
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            value = _constant_value(node)
            # A constant that is a graph's output needs a node that produces it in some runtimes.
            if value is None:
                continue
            name = node.output[0]
            if name in used and name not in outputs and _fits(value, inline_below):
                found.append((name, f"graph: constant {name!r}", value))
    seen: set[str] = set()
    for name, where, _ in found:
        if name in seen or not name:
            raise ModelError(f"{where}: the name stands twice, or is empty", hint="export the model again")
        seen.add(name)
    return found


def _used_names(graph: GraphProto) -> set[str]:
    """Names that something reads: nodes of the graph or of its subgraphs, or the caller.

    An initializer that nobody reads stays where it is: a runtime drops it on loading, and then refuses the value that
    it is given for it.
    """
    names = {value.name for value in graph.output}
    for _, inner in iter_graphs_below(graph):
        names.update(value.name for value in inner.output)
        for node in inner.node:
            names.update(node.input)
    return names


def _fits(tensor: TensorProto, inline_below: int) -> bool:
    element = element_of(tensor, f"tensor {tensor.name!r}")
    if element.bits < 8 or element.name.startswith("complex"):
        return False
    return tensor_bytes(tensor, f"tensor {tensor.name!r}") >= max(inline_below, 1)


def _constant_value(node: NodeProto) -> Any:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if len(node.attribute) != 1 or node.attribute[0].name != "value" or not node.attribute[0].HasField("t"):
        return None
    return node.attribute[0].t


def _data_of(tensor: TensorProto, where: str, folder: ExternalFolder) -> _Data:
    if is_external(tensor):
        return _FileData(folder.resolve(tensor, where))
    return _InlineData(tensor, where, tensor_bytes(tensor, where))


def _lay_out(
    moved: list[tuple[str, TensorProto, _Data]],
) -> tuple[tuple[TensorEntry, ...], tuple[tuple[int, _Data], ...], int]:
    """Gives every tensor its place: by name, small ones first, equal bytes once.

    Sorted by name, so that the layout does not depend on how an exporter happened to order initializers; small ones
    first, so that they share pages and the gaps before large ones stay few.
    """
    order = sorted(moved, key=lambda row: (row[2].length >= _LARGE_BYTES, row[0].encode()))
    twins = _digests_of_twins(order)
    placed: dict[bytes, int] = {}
    rows: list[TensorEntry] = []
    pieces: list[tuple[int, _Data]] = []
    end = 0
    for name, tensor, data in order:
        digest = twins.get(name)
        offset = placed.get(digest, -1) if digest else -1
        if offset < 0:
            align = _LARGE_ALIGN if data.length >= _LARGE_BYTES else _SMALL_ALIGN
            offset = -(-end // align) * align
            pieces.append((offset, data))
            end = offset + data.length
            if digest:
                placed[digest] = offset
        element = ELEMENTS[tensor.data_type]
        rows.append(
            TensorEntry(
                name=name, dtype=element.name, shape=tuple(tensor.dims), offset=offset, length=data.length
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (row.offset, row.name.encode()))
    return tuple(rows), tuple(pieces), end


def _digests_of_twins(rows: list[tuple[str, TensorProto, _Data]]) -> dict[str, bytes]:
    """SHA-256 of those tensors whose length occurs more than once; only they can have equal bytes."""
    lengths: dict[int, int] = {}
    for _, _, data in rows:
        lengths[data.length] = lengths.get(data.length, 0) + 1
    found: dict[str, bytes] = {}
    for name, _, data in rows:
        if lengths[data.length] > 1:
            digest = hashlib.sha256()
            for block in data.blocks():
                digest.update(block)
            found[name] = digest.digest()
    return found


def _graph_bytes(source: ModelProto, moved: set[str], folder: ExternalFolder) -> bytes:
    from onnx import ModelProto

    result = ModelProto()
    for field, value in source.ListFields():
        if field.name != "graph":
            _copy_field(result, field.name, value)
    _copy_graph(source.graph, result.graph, moved)
    room = MAX_MODEL_BYTES
    for placed in iter_tensors(result):
        if is_external(placed.tensor):
            room -= _read_in(placed.tensor, placed.where, folder, room)
    _name_nodes(result)
    if result.ByteSize() > MAX_MODEL_BYTES:
        raise _too_large()
    return bytes(result.SerializeToString(deterministic=True))


def _copy_graph(source: GraphProto, target: GraphProto, moved: set[str]) -> None:
    """Every field but what was moved; copied field by field, so that moved weights are never in memory twice."""
    target.SetInParent()
    for field, value in source.ListFields():
        if field.name == "initializer":
            target.initializer.extend(tensor for tensor in value if tensor.name not in moved)
        elif field.name == "node":
            target.node.extend(node for node in value if not (_constant_value(node) and node.output[0] in moved))
        else:
            _copy_field(target, field.name, value)


def _copy_field(target: object, name: str, value: object) -> None:
    field = getattr(target, name)
    if hasattr(field, "extend"):
        field.extend(value)
    elif hasattr(field, "CopyFrom"):
        field.CopyFrom(value)
    else:
        setattr(target, name, value)


def _read_in(tensor: TensorProto, where: str, folder: ExternalFolder, room: int) -> int:
    """External data of a tensor that stays in the graph becomes its raw data."""
    source = folder.resolve(tensor, where)
    if source.length > room:
        raise _too_large()
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = source.read(0, source.length)
    return source.length


def _too_large() -> ModelError:
    return ModelError(
        f"what must stay in the graph (subgraphs, functions, 4-bit, sparse) exceeds {MAX_MODEL_BYTES} bytes",
        hint="make large tensors initializers of the main graph",
    )


def _name_nodes(model: ModelProto) -> None:
    """Gives nameless nodes names that depend on their place alone: some runtimes need one, evidence quotes them."""
    # Listed before anything is named: places are spelt with the names of the nodes around them.
    places = list(iter_node_lists(model))
    taken = {node.name for _, nodes in places for node in nodes}
    for where, nodes in places:
        prefix = "" if where == "graph" else where.replace("graph.", "", 1).replace(" ", "_") + "/"
        for number, node in enumerate(nodes):
            if not node.name:
                name = base = f"{prefix}{node.op_type}_{number}"
                suffix = 0
                while name in taken:
                    suffix += 1
                    name = f"{base}_{suffix}"
                node.name = name
                taken.add(name)
