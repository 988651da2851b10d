"""Keras models: `.keras` archives of Keras 3 and HDF5 files of every Keras."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, ConvertResult, EvaluateRequest, EvaluateResult, Probe, StepContext
from sdkpack_tensorflow.keras_code import allowed_objects
from sdkpack_tensorflow.keras_config import Description, called_in_training, read_hdf, read_keras
from sdkpack_tensorflow.onnx_writer import Port, choose_opset, convert_graph, finish, save
from sdkpack_tensorflow.params import KerasParams
from sdkpack_tensorflow.ports import apply_request, named_shape, selected
from sdkpack_tensorflow.runs import Inner, feed_of, read_sample, write_outputs
from sdkpack_tensorflow.tf_graph import check_inference, open_outputs, plain_session, pruned
from sdkpack_tensorflow.toolchain import fingerprint, load_tensorflow, read_safely, tools

__all__ = ["HdfConverter", "KerasConverter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A loaded model as a function of its inputs."""

    model: Any
    function: Any
    """A `tf.function` of the inputs in order, which gives the outputs in order."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tool: str
    """Who loaded it: `keras` or `tf_keras`."""
    stateful: tuple[str, ...]
    """Layers that keep their state from run to run."""
    trained: tuple[str, ...]
    """Layers that the model calls with `training=True`."""

    def concrete(self) -> tuple[Any, tuple[Port, ...], tuple[Port, ...]]:
        """The traced function, and inputs and outputs with the names of their tensors in it."""
        import tensorflow as tf

        specs = [
            tf.TensorSpec([dim if isinstance(dim, int) else None for dim in port.shape or ()], port.dtype)
            for port in self.inputs
        ]
        traced = self.function.get_concrete_function(*specs)
        return traced, _at(self.inputs, traced.inputs), _at(self.outputs, traced.outputs)


class _Converter:
    """What both formats have in common."""

    suffix: str
    read: Callable[[Path], Description]

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint=fingerprint())

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Loads the model, calls it once in inference mode, and converts what that call does."""
        opset = choose_opset(request)
        context.progress(0.05, "loading TensorFlow")
        load_tensorflow()
        what = repr(request.source.name)
        context.progress(0.2, f"loading {request.source.name}")
        network = self._load(request, context)
        context.progress(0.4, "tracing")
        frozen, inputs, outputs = _frozen(network, what, context)
        frozen, outputs = pruned(frozen, inputs, outputs)
        check_inference(frozen, what)
        context.progress(0.6, "writing ONNX")
        with read_safely(f"{what} cannot be converted", log=context.log):
            model = convert_graph(opset=opset, inputs=inputs, outputs=outputs, what=what, frozen=frozen)
        context.progress(0.9, "checking")
        notes = list(finish(model, inputs, open_outputs(frozen, inputs, outputs)))
        if network.stateful:
            notes.append(f"begins each run anew; kept its state from run to run: {', '.join(network.stateful)}")
        if network.trained:
            notes.append(f"built with training=True, converted in inference mode: {', '.join(network.trained)}")
        path = save(model, context.work / "model.onnx")
        return ConvertResult(model=path, notes=tuple(notes), tools=tools("tensorflow", network.tool, "tf2onnx", "onnx"))

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Calls the model in inference mode; inner tensors are of the same call, frozen."""
        import tensorflow as tf

        load_tensorflow()
        what = repr(request.conversion.source.name)
        context.progress(0.1, f"loading {request.conversion.source.name}")
        network = self._load(request.conversion, context)
        inner = Inner.of(request)
        frozen, ports = None, network.inputs
        if inner.producers:
            frozen, ports, _ = _frozen(network, what, context)
        paths = []
        for number, sample in enumerate(request.samples):
            context.progress(number / len(request.samples), f"sample {number + 1} of {len(request.samples)}")
            arrays = read_sample(sample, ports)
            feed = feed_of(arrays, ports)
            with read_safely(f"{what} does not take {sample.name}", log=context.log):
                _forget(network.model)
                found = network.function(*(tf.constant(feed[port.tensor]) for port in ports))
            values = {port.name: value.numpy() for port, value in zip(network.outputs, found, strict=True)}
            if frozen is not None:
                with tf.Graph().as_default() as graph, plain_session(graph) as session:
                    tf.import_graph_def(frozen, name="")
                    values |= inner.of_graph(graph, arrays, lambda fetches: session.run(fetches, feed))  # noqa: B023
            paths.append(write_outputs(context.work / f"{number}.npz", values))
        return EvaluateResult(outputs=tuple(paths), tools=tools("tensorflow", network.tool))

    def _load(self, request: ConvertRequest, context: StepContext) -> _Network:
        description = type(self).read(request.source)
        objects = allowed_objects(description, request)
        path = request.source
        if path.suffix.lower() != self.suffix:
            # Keras goes by the name; the core went by the content.
            path = context.work / f"source{self.suffix}"
            shutil.copyfile(request.source, path)
        model, tool = self._open(path, description, objects, request, context)
        return _network(model, tool, request, called_in_training(description))

    def _open(
        self,
        path: Path,
        description: Description,
        objects: dict[str, Any],
        request: ConvertRequest,
        context: StepContext,
    ) -> tuple[Any, str]:
        raise NotImplementedError


class KerasConverter(_Converter):
    """A `.keras` archive."""

    suffix = ".keras"
    read = staticmethod(read_keras)

    def _open(
        self,
        path: Path,
        description: Description,
        objects: dict[str, Any],
        request: ConvertRequest,
        context: StepContext,
    ) -> tuple[Any, str]:
        with read_safely(f"{request.source.name!r} cannot be loaded (saved by Keras {description.version})",
                         log=context.log):  # fmt: skip
            return _keras_3(path, objects, request), "keras"


class HdfConverter(_Converter):
    """An HDF5 file. Each is read by the Keras that comes nearest to the one that wrote it, else by the other one."""

    suffix = ".h5"
    read = staticmethod(read_hdf)

    def _open(
        self,
        path: Path,
        description: Description,
        objects: dict[str, Any],
        request: ConvertRequest,
        context: StepContext,
    ) -> tuple[Any, str]:
        loaders = [("tf_keras", _tf_keras), ("keras", _keras_3)]
        if description.version.partition(".")[0].isdigit() and int(description.version.partition(".")[0]) >= 3:
            loaders.reverse()
        what = f"{request.source.name!r} cannot be loaded (saved by Keras {description.version or 'unknown'})"
        first: ModelError | None = None
        for tool, load in loaders:
            try:
                with read_safely(what, log=context.log):
                    return load(path, objects, request), tool
            except ModelError as error:
                first = first or error
        assert first is not None
        raise first


def _keras_3(path: Path, objects: dict[str, Any], request: ConvertRequest) -> Any:
    import keras

    return keras.saving.load_model(path, custom_objects=objects, compile=False, safe_mode=not request.allow_code)


def _tf_keras(path: Path, objects: dict[str, Any], request: ConvertRequest) -> Any:
    import tf_keras

    return tf_keras.models.load_model(path, custom_objects=objects, compile=False, safe_mode=not request.allow_code)


# A model as a function ------------------------------------------------------------------------------------------------
def _network(model: Any, tool: str, request: ConvertRequest, trained: Sequence[str]) -> _Network:
    import tensorflow as tf

    params = request.params if isinstance(request.params, KerasParams) else KerasParams()
    inputs = apply_request(_inputs(model, request), params.inputs_as_nchw, request)
    outputs = _outputs(model, inputs)
    kept = selected(outputs, params.outputs, request)
    places = [outputs.index(port) for port in kept]

    def call(*arrays: Any) -> list[Any]:
        found = tf.nest.flatten(model(list(arrays) if len(arrays) > 1 else arrays[0], training=False))
        return [tf.identity(found[place]) for place in places]

    layers = _layers(model)
    return _Network(
        model=model,
        function=tf.function(call),
        inputs=inputs,
        outputs=kept,
        tool=tool,
        trained=tuple(trained),
        stateful=tuple(layer.name for layer in layers if getattr(layer, "stateful", False) is True),
    )


def _layers(model: Any) -> list[Any]:
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten(include_self=False)) if flatten is not None else []


def _inputs(model: Any, request: ConvertRequest) -> list[Port]:
    tensors = getattr(model, "inputs", None)
    if not tensors:
        if not request.inputs:
            raise ModelError(
                f"{request.source.name!r} does not say what its inputs are",
                hint=f"declare them: models.{request.name}.inputs.NAME = {{ dtype = ..., shape = [...] }}",
            )
        return [
            Port(tensor=spec.name, name=spec.name, shape=tuple(spec.shape), dtype=spec.dtype) for spec in request.inputs
        ]
    names = getattr(model, "input_names", None) or [_operation(tensor) for tensor in tensors]
    names = _unique(names)
    return [
        Port(tensor=name, name=name, shape=named_shape(name, list(tensor.shape)), dtype=_dtype(tensor.dtype))
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _operation(tensor: Any) -> str:
    return str(tensor._keras_history.operation.name)  # noqa: SLF001 - Keras 3 has no other way to the name


def _dtype(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _outputs(model: Any, inputs: Sequence[Port]) -> list[Port]:
    tensors = list(getattr(model, "outputs", None) or [None])
    names = list(getattr(model, "output_names", None) or [])
    if not names and tensors != [None]:
        names = [_operation(tensor) for tensor in tensors]
    if not names:
        names = ["output"]
    names = _unique(names, {port.name for port in inputs})
    return [
        Port(tensor=name, name=name, shape=_output_shape(tensor)) for name, tensor in zip(names, tensors, strict=True)
    ]


def _output_shape(tensor: Any) -> tuple[int | str, ...] | None:
    """Keras' models keep the batch in the first dimension, in and out."""
    shape = getattr(tensor, "shape", None)
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else "N" if index == 0 else "?" for index, dim in enumerate(shape))


def _unique(names: Sequence[str], taken: set[str] | None = None) -> list[str]:
    """A layer may be an output twice, and an input may be an output."""
    seen = set(taken or ())
    unique = []
    for name in names:
        candidate, number = name, 0
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        unique.append(candidate)
    return unique


def _at(ports: Sequence[Port], tensors: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(replace(port, tensor=tensor.name) for port, tensor in zip(ports, tensors, strict=False))


def _frozen(network: _Network, what: str, context: StepContext) -> tuple[Any, tuple[Port, ...], tuple[Port, ...]]:
    from tf2onnx import tf_loader

    with read_safely(f"{what} cannot be called", log=context.log):
        traced, inputs, outputs = network.concrete()
        frozen = tf_loader.from_function(traced, [port.tensor for port in inputs], [port.tensor for port in outputs])
    return frozen, inputs, outputs


def _forget(model: Any) -> None:
    """Stateful layers begin anew."""
    for layer in _layers(model):
        reset = getattr(layer, "reset_state", None) or getattr(layer, "reset_states", None)
        if reset is not None and getattr(layer, "stateful", False) is True:
            reset()
