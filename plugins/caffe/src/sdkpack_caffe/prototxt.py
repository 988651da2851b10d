"""Reads a prototxt: which layers the network has at inference, in one form whatever the version of the file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack_caffe.schema import network_class

__all__ = ["DATA_LAYERS", "Layer", "Network", "read_prototxt"]

_MAX_BYTES: Final = 64 << 20
_MAX_LAYERS: Final = 100_000

DATA_LAYERS: Final = frozenset({
    "AnnotatedData", "Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "VideoData", "WindowData",
})  # fmt: skip
"""Types of layers that read a data set."""

_V1_NAMES: Final = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
    "IM2COL": "Im2col",
}  # fmt: skip
"""V1 types whose V2 name is not the V1 name in camel case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer as the prototxt describes it, in the form of Caffe 1.0."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    fields: Any
    """The layer's message: `layer.fields.pooling_param.stride`."""

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.type})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What a prototxt describes for the phase TEST."""

    name: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Of the fields `input`, `input_shape` and `input_dim`; layers of the type Input stand among the layers."""
    layers: tuple[Layer, ...]
    unknown_field: str = ""
    """What the protocol buffer library said of the first field that is in no table."""


def read_prototxt(path: Path, *, stages: Iterable[str] = ()) -> Network:
    """Reads a network and leaves out what belongs to training by its rules.

    Raises:
        ModelError: no text, no prototxt, of the first version (V0), or nothing remains for the phase TEST.
    """
    net, unknown = _parse(path)
    if len(net.layer) + len(net.layers) > _MAX_LAYERS:
        raise ModelError(f"the prototxt has {len(net.layer) + len(net.layers)} layers, at most {_MAX_LAYERS} are read",
                         where=path.name)  # fmt: skip
    if net.layer and net.layers:
        raise ModelError("the prototxt has both 'layer' and 'layers' entries", where=path.name)
    if any(entry.HasField("layer") for entry in net.layers):
        raise ModelError(
            "the prototxt has the layer format V0, of Caffe before 2014",
            hint="rewrite it with Caffe's own upgrade_net_proto_text, then convert the result", where=path.name,
        )  # fmt: skip
    state = _State(level=net.state.level, stages=frozenset((*net.state.stage, *stages)))
    every = [*net.layer, *net.layers]
    included = [_included(entry, state, path) for entry in every]
    chosen = [entry for entry, keep in zip(every, included, strict=True) if keep]
    layers = tuple(_layer(entry, number, path) for number, entry in enumerate(chosen))
    if layers:
        others = [_layer(entry, number, path) for number, entry in enumerate(every) if not included[number]]
        layers = (*_data_for_training(others, layers, set(net.input)), *layers)
    if not layers:
        found = len(net.layer) + len(net.layers)
        why = f"all {found} layers are for training only" if found else "it has no layer"
        raise ModelError(f"the prototxt describes no network for the phase TEST: {why}",
                         hint="give the deploy prototxt, the one without data layers", where=path.name)  # fmt: skip
    return Network(name=net.name, inputs=_inputs(net, path), layers=layers, unknown_field=unknown)


def _data_for_training(left_out: Iterable[Layer], layers: Iterable[Layer], inputs: set[str]) -> list[Layer]:
    """Layers that read a data set in the phase TRAIN alone, where the network has nothing else to begin with."""
    made = inputs.union(*(layer.tops for layer in layers))
    taken = {bottom for layer in layers for bottom in layer.bottoms}
    return [
        layer for layer in left_out
        if layer.type in DATA_LAYERS and taken.intersection(layer.tops) and not made.intersection(layer.tops)
    ]  # fmt: skip


def _parse(path: Path) -> tuple[Any, str]:
    from google.protobuf import text_format

    if path.stat().st_size > _MAX_BYTES:
        raise ModelError(f"the prototxt has {path.stat().st_size} bytes, at most {_MAX_BYTES} are read",
                         hint="is it the caffemodel?", where=path.name)  # fmt: skip
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError("the prototxt is no text", hint="is it the caffemodel?", where=path.name) from error
    net, unknown = network_class()(), ""
    try:
        with warnings.catch_warnings():
            # An escape sequence that the library does not know is no reason to warn the user of a later Python.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                text_format.Parse(text, net)
            except text_format.ParseError as error:
                if not re.search(r"has no field named", str(error)):
                    raise
                unknown = re.sub(r'Message type "sdkpack\.caffe\.net\.(\w+)"', r"\1", str(error)).rstrip(".")
                net = network_class()()
                text_format.Parse(text, net, allow_unknown_field=True)
    # Brackets without end in a field that nobody knows: the library reads those recursively.
    except (text_format.ParseError, RecursionError) as error:
        what = "brackets nested too deeply" if isinstance(error, RecursionError) else str(error)
        what = what.replace("sdkpack.caffe.net.", "")
        raise ModelError(f"the prototxt cannot be read: {what.rstrip('.')}", where=path.name) from error
    return net, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    level: int
    stages: frozenset[str]

    def meets(self, rule: Any) -> bool:
        """Whether a NetStateRule holds, all parts of it, for the phase TEST (1)."""
        return (
            (not rule.HasField("phase") or rule.phase == 1)
            and (not rule.HasField("min_level") or self.level >= rule.min_level)
            and (not rule.HasField("max_level") or self.level <= rule.max_level)
            and self.stages.issuperset(rule.stage)
            and self.stages.isdisjoint(rule.not_stage)
        )


def _included(entry: Any, state: _State, path: Path) -> bool:
    if entry.include and entry.exclude:
        raise ModelError(f"layer {entry.name!r} has both include and exclude rules", where=path.name)
    if entry.include:
        return any(map(state.meets, entry.include))
    return not any(map(state.meets, entry.exclude))


def _layer(entry: Any, number: int, path: Path) -> Layer:
    kind = entry.type
    if not isinstance(kind, str):
        label = entry.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[kind].name
        kind = _V1_NAMES.get(label) or "".join(word.capitalize() for word in label.split("_"))
    if not kind or kind == "None":
        raise ModelError(f"layer {entry.name!r}, number {number + 1}, has no type", where=path.name)
    return Layer(name=entry.name or f"{kind}{number}", type=kind, bottoms=tuple(entry.bottom), tops=tuple(entry.top),
                 fields=entry)  # fmt: skip


def _inputs(net: Any, path: Path) -> tuple[tuple[str, tuple[int, ...]], ...]:
    names = list(net.input)
    if net.input_shape:
        shapes = [tuple(shape.dim) for shape in net.input_shape]
    else:
        sizes = list(net.input_dim)
        shapes = [tuple(sizes[at : at + 4]) for at in range(0, len(sizes), 4)]
    if names and not shapes:
        return tuple((name, ()) for name in names)
    if len(names) != len(shapes) or any(not shape for shape in shapes):
        raise ModelError(f"the prototxt names {len(names)} inputs and gives {len(shapes)} shapes", where=path.name)
    return tuple(zip(names, shapes, strict=True))
