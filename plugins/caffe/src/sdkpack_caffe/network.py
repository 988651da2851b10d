"""From the files of a network to the bytes of an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdkpack.errors import ModelError, Problem
from sdkpack.types import TensorSpec
from sdkpack_caffe.caffemodel import Blob, read_caffemodel
from sdkpack_caffe.graph import Graph, LayerError, Scope, Shape, Value
from sdkpack_caffe.layers import is_dropped, is_training_data, rule_for
from sdkpack_caffe.openness import Sizes, merge_trials, open_planes, trial_sizes
from sdkpack_caffe.params import CaffeParams
from sdkpack_caffe.prototxt import Layer, Network, read_prototxt
from sdkpack_caffe.write import build_model

__all__ = ["blob_shapes", "convert_network"]


def convert_network(
    prototxt: Path, caffemodel: Path, params: CaffeParams, *, declared: Iterable[TensorSpec] = ()
) -> tuple[bytes, tuple[str, ...]]:
    """The ONNX model, and what its user should know.

    Raises:
        ModelError: a file is damaged, the two do not belong together, or layers cannot be converted; all that is wrong
            is told at once.
    """
    network = read_prototxt(prototxt, stages=params.stages)
    _check_types(network, prototxt.name)
    if network.unknown_field and params.unknown_fields == "refuse":
        raise ModelError(
            f"the prototxt has a field that no known layer has: {network.unknown_field}",
            hint='if it does nothing at inference: convert.with.unknown_fields = "ignore"', where=prototxt.name,
        )  # fmt: skip
    blobs = read_caffemodel(caffemodel)
    # "?" is any size, which gets a name like other open ones.
    wanted: dict[str, Sizes] = {
        spec.name: tuple(f"d{axis}" if size == "?" else size for axis, size in enumerate(spec.shape))
        for spec in declared
    } | params.shapes
    content, notes = _model(network, blobs, params, wanted, prototxt)
    if network.unknown_field:
        notes.append(f"ignored a field of the prototxt: {network.unknown_field}")
    return content, tuple(notes)


def blob_shapes(prototxt: Path, caffemodel: Path) -> dict[str, Shape | None]:
    """The shape of each blob by Caffe's rules; None where it is known when it is computed only.

    Raises:
        ModelError: as `convert_network`.
    """
    network = read_prototxt(prototxt)
    _check_types(network, prototxt.name)
    walk = _walk(network, read_caffemodel(caffemodel), Graph(opset=17), {}, prototxt.name)
    return {name: value.shape for name, value in walk.values.items()}


def _model(
    network: Network, blobs: Mapping[str, tuple[Blob, ...]], params: CaffeParams, wanted: Mapping[str, Sizes],
    prototxt: Path,
) -> tuple[bytes, list[str]]:  # fmt: skip
    """Converts for one size, or where sizes are open for several: only what is the same for all fits them all."""
    models, walks, name = [], [], network.name or prototxt.stem
    trials = trial_sizes(network, wanted)
    for sizes in trials:
        graph = Graph(opset=params.opset, open_sizes=open_planes(wanted))
        walk = _walk(network, blobs, graph, sizes, prototxt.name)
        walks.append(walk)
        models.append(build_model(graph, walk.inputs, walk.outputs, walk.values, name=name))
    model = models[0] if len(models) == 1 else merge_trials(models, trials, wanted, prototxt.name)
    if any(isinstance(size, str) for sizes in wanted.values() for size in sizes[:1]):
        walks[0].graph.notes += [
            f"output {value.name!r} has a first size that does not follow the batch: a layer of the prototxt fixes it"
            for value in model.graph.output
            if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].HasField("dim_value")
        ]
    return bytes(model.SerializeToString(deterministic=True)), walks[0].graph.notes


def _check_types(network: Network, where: str) -> None:
    """Tells of every layer that has no rule, all at once."""
    problems = [
        Problem(path=layer.name, message="no such layer can be converted", got=layer.type)
        for layer in network.layers
        if rule_for(layer.type) is None and layer.type != "Input" and not is_training_data(layer.type)
        and not is_dropped(layer.type)
    ]  # fmt: skip
    if problems:
        kinds = ", ".join(sorted({problem.got for problem in problems}))
        count = "one layer" if len(problems) == 1 else f"{len(problems)} layers"
        raise ModelError(f"the network has {count} of types that cannot be converted: {kinds}",
                         hint="sdkpack plugins show caffe", where=where, problems=problems)  # fmt: skip


@dataclass(slots=True)
class _Walk:
    """The state between layers: what each blob's name stands for at this point."""

    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    inputs: list[tuple[str, Shape]] = field(default_factory=list)
    unused: dict[str, None] = field(default_factory=dict)
    """Names of blobs that no layer has taken, in order: in the end the outputs."""
    broken: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def tell(self, layer: Layer, error: LayerError) -> None:
        """Notes what is wrong with a layer."""
        message = f"{layer.type}: {error.message}"
        self.problems.append(Problem(path=layer.name, message=message, got=error.got, expected=error.expected))

    @property
    def outputs(self) -> list[str]:
        inputs = dict(self.inputs)
        return [name for name in self.unused if name not in inputs or self.values[name].name != name]


def _walk(
    network: Network, blobs: Mapping[str, tuple[Blob, ...]], graph: Graph, wanted: Mapping[str, Shape],
    where: str,
) -> _Walk:  # fmt: skip
    walk = _Walk(graph=graph)
    graph.reserve(top for layer in network.layers for top in layer.tops)
    for name, shape in network.inputs:
        _add_input(walk, name, shape, wanted, where)
    for layer in network.layers:
        if layer.type == "Input":
            _input_layer(walk, layer, wanted, where)
        elif is_training_data(layer.type):
            _data_layer(walk, layer, wanted, where)
        elif is_dropped(layer.type):
            _drop(walk, layer)
        else:
            _step(walk, layer, blobs.get(layer.name, ()))
    unknown = [name for name in wanted if name not in dict(walk.inputs)]
    if unknown:
        names = ", ".join(repr(name) for name, _ in walk.inputs)
        raise ModelError(f"the network has no input {unknown[0]!r}", hint=f"its inputs are {names}", where=where)
    if walk.problems:
        found = len({problem.path for problem in walk.problems})
        count = "one layer" if found == 1 else f"{found} layers"
        raise ModelError(f"{count} cannot be converted", hint=_foreign(network, blobs), where=where,
                         problems=walk.problems)  # fmt: skip
    if not walk.outputs:
        raise ModelError("the network has no output beside its inputs", where=where)
    return walk


def _foreign(network: Network, blobs: Mapping[str, tuple[Blob, ...]]) -> str:
    """What to say where no layer of the network has weights in the caffemodel."""
    if not blobs or any(layer.name in blobs for layer in network.layers):
        return ""
    names = ", ".join(repr(name) for name in list(blobs)[:4])
    return f"is it the caffemodel of another network? it has weights of the layers {names}"


def _add_input(walk: _Walk, name: str, shape: Sequence[int], wanted: Mapping[str, Shape], where: str) -> None:
    sizes: Shape = tuple(wanted.get(name, tuple(shape)))
    if not sizes:
        raise ModelError(f"the prototxt gives input {name!r} no shape", where=where,
                         hint=f"set it: convert.with.shapes = {{ {name} = [1, 3, 224, 224] }}")  # fmt: skip
    if any(size < 1 for size in sizes):
        raise ModelError(f"input {name!r} has the shape {list(sizes)}, expected sizes of at least 1", where=where)
    if name in walk.values:
        raise ModelError(f"two inputs are called {name!r}", where=where)
    walk.graph.reserve([name])
    walk.graph.shapes[name] = sizes
    walk.values[name] = Value(name=name, shape=sizes)
    walk.inputs.append((name, sizes))
    walk.unused[name] = None


def _input_layer(walk: _Walk, layer: Layer, wanted: Mapping[str, Shape], where: str) -> None:
    shapes = [tuple(shape.dim) for shape in layer.fields.input_param.shape]
    if len(shapes) not in (0, 1, len(layer.tops)):
        raise ModelError(f"{layer} has {len(shapes)} shapes for {len(layer.tops)} tops", where=where)
    for at, top in enumerate(layer.tops):
        _add_input(walk, top, (shapes[0] if len(shapes) == 1 else shapes[at]) if shapes else (), wanted, where)


def _data_layer(walk: _Walk, layer: Layer, wanted: Mapping[str, Shape], where: str) -> None:
    """A layer that reads a data set: its tops become inputs where the recipe gives their shapes."""
    for top in layer.tops:
        if top in wanted:
            _add_input(walk, top, (), wanted, where)
            walk.graph.notes.append(f"{layer} reads a data set; its top {top!r} became an input")
        else:
            walk.broken.add(top)
    if layer.tops and not any(top in wanted for top in layer.tops):
        raise ModelError(
            f"the prototxt is for training: {layer} reads a data set",
            hint="give the deploy prototxt, or the input's shape: "
            f"convert.with.shapes = {{ {layer.tops[0]} = [1, 3, 224, 224] }}",
            where=where,
        )


def _drop(walk: _Walk, layer: Layer) -> None:
    # What a measuring layer takes would have been the output otherwise, and now is again.
    walk.broken.update(top for top in layer.tops if top not in walk.values)
    if layer.type != "Silence":
        walk.graph.notes.append(f"{layer} does nothing at inference and was left out")
    else:
        for bottom in layer.bottoms:
            walk.unused.pop(bottom, None)


def _step(walk: _Walk, layer: Layer, blobs: tuple[Blob, ...]) -> None:
    if walk.broken.intersection(layer.bottoms):
        walk.broken.update(layer.tops)
        return
    try:
        results = _apply(walk, layer, blobs)
    except LayerError as error:
        walk.tell(layer, error)
        walk.broken.update(layer.tops)
        return
    for bottom in layer.bottoms:
        walk.unused.pop(bottom, None)
    for top, value in zip(layer.tops, results, strict=True):
        walk.values[top] = value
        walk.unused[top] = None


def _apply(walk: _Walk, layer: Layer, blobs: tuple[Blob, ...]) -> Sequence[Value]:
    missing = [name for name in layer.bottoms if name not in walk.values]
    if missing:
        raise LayerError("no layer before it makes its bottom", got=", ".join(map(repr, missing)))
    again = [top for top in layer.tops if top in walk.values and top not in layer.bottoms]
    if again:
        raise LayerError("another layer has a top of the same name, and this is not in place", got=", ".join(again))
    rule = rule_for(layer.type)
    assert rule is not None
    scope = Scope(graph=walk.graph, layer=layer, inputs=tuple(walk.values[name] for name in layer.bottoms), blobs=blobs)
    results: Any = rule(scope)
    for problem in scope.problems:
        walk.tell(layer, problem)
    if not scope.problems and len(scope.taken) != len(blobs):
        raise LayerError("the caffemodel has another number of blobs for it", got=str(len(blobs)),
                         expected=str(len(scope.taken)))  # fmt: skip
    if len(results) != len(layer.tops):
        raise LayerError("wrong number of tops", got=str(len(layer.tops)), expected=str(len(results)))
    return list(results)
