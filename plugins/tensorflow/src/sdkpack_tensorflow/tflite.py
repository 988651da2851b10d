"""TFLite models, float and quantised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, ConvertResult, EvaluateRequest, EvaluateResult, Probe, StepContext
from sdkpack_tensorflow.onnx_writer import Port, choose_opset, convert_graph, finish, save
from sdkpack_tensorflow.params import TfliteParams
from sdkpack_tensorflow.ports import apply_request, named_shape, near, selected
from sdkpack_tensorflow.runs import Inner, feed_of, read_sample, write_outputs
from sdkpack_tensorflow.tflite_file import Operator, check_operators, read_operators
from sdkpack_tensorflow.tflite_graph import plain_products, restore_names, round_activations
from sdkpack_tensorflow.tflite_means import round_means
from sdkpack_tensorflow.toolchain import fingerprint, load_tensorflow, read_safely, tools

__all__ = ["TfliteConverter"]


class TfliteConverter:
    """The main graph of a TFLite file."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint=fingerprint())

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Integer tensors stay integers, between QuantizeLinear and DequantizeLinear."""
        opset = choose_opset(request)
        params = _params(request)
        context.progress(0.05, "loading TensorFlow")
        load_tensorflow()
        what = repr(request.source.name)
        context.progress(0.3, f"reading {request.source.name}")
        interpreter, operators = _opened(request, keep=False)
        inputs, outputs = _ports(interpreter, request)
        context.progress(0.5, "writing ONNX")
        with read_safely(f"{what} cannot be converted", log=context.log):
            model = convert_graph(opset=opset, inputs=inputs, outputs=outputs, what=what, tflite=request.source)
            restore_names(model, operators)
            plain_products(model, operators)
            round_means(model)
            hybrid = round_activations(model, operators, opset) if params.dynamic_range else 0
        context.progress(0.9, "checking")
        notes = list(finish(model, inputs, _open_outputs(interpreter, inputs, outputs)))
        if hybrid:
            notes.append(f"{hybrid} layers round their activations to 8 bits while they run, as TFLite does; "
                         "convert.with.dynamic_range = false changes that")  # fmt: skip
        path = save(model, context.work / "model.onnx")
        return ConvertResult(model=path, notes=tuple(notes), tools=tools("tensorflow", "tf2onnx", "onnx"))

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the file in TensorFlow Lite's interpreter."""
        load_tensorflow()
        what = repr(request.conversion.source.name)
        context.progress(0.1, f"loading {request.conversion.source.name}")
        inner = Inner.of(request)
        interpreter, operators = _opened(request.conversion, keep=bool(inner.producers))
        inputs, outputs = _ports(interpreter, request.conversion)
        made = {name for operator in operators for name in operator.outputs}
        paths = []
        for number, sample in enumerate(request.samples):
            context.progress(number / len(request.samples), f"sample {number + 1} of {len(request.samples)}")
            arrays = read_sample(sample, inputs)
            with read_safely(f"{what} does not take {sample.name}", log=context.log):
                found = _run(interpreter, feed_of(arrays, inputs))
                values = {port.name: found(port.tensor) for port in outputs}
                if inner.producers:
                    shown = {name: found(name) for name in inner.producers if name in made}
                    values |= inner.fitting({name: value for name, value in shown.items() if value is not None}, arrays)
            paths.append(write_outputs(context.work / f"{number}.npz", values))
        return EvaluateResult(outputs=tuple(paths), tools=tools("tensorflow"))


def _params(request: ConvertRequest) -> TfliteParams:
    return request.params if isinstance(request.params, TfliteParams) else TfliteParams()


def _opened(request: ConvertRequest, *, keep: bool) -> tuple[Any, list[Operator]]:
    """An interpreter with its tensors, and the file's operators.

    Args:
        request: names the file.
        keep: inner tensors can be read after a run.

    Raises:
        ModelError: damaged, or it uses custom operators.
    """
    import tensorflow as tf

    what = repr(request.source.name)
    with read_safely(f"{what} is damaged, or no TFLite model", hint="copy it anew, or convert the model again"):
        operators = read_operators(request.source)
    check_operators(operators, what)
    with read_safely(f"{what} cannot be prepared"):
        interpreter = tf.lite.Interpreter(
            model_path=str(request.source), experimental_preserve_all_tensors=keep, num_threads=1
        )
        interpreter.allocate_tensors()
    return interpreter, operators


def _ports(interpreter: Any, request: ConvertRequest) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    params = _params(request)
    names = _signature(interpreter, params.signature, request)
    inputs = [_port(detail, names) for detail in interpreter.get_input_details()]
    outputs = [_port(detail, names) for detail in interpreter.get_output_details()]
    inputs = [
        replace(port, shape=named_shape(port.name, [dim if isinstance(dim, int) else None for dim in port.shape or ()]))
        for port in inputs
    ]
    doubled = sorted({port.name for port in outputs if [other.name for other in outputs].count(port.name) > 1})
    if doubled:
        raise ModelError(
            f"{request.source.name!r} has several outputs named {', '.join(doubled)}",
            hint=f"models.{request.name}.convert.with.signature gives them names of their own",
        )
    return apply_request(inputs, params.inputs_as_nchw, request), selected(outputs, params.outputs, request)


def _port(detail: Any, names: dict[str, str]) -> Port:
    import numpy as np

    dims = list(detail["shape_signature"]) if len(detail["shape_signature"]) else list(detail["shape"])
    tensor = detail["name"]
    return Port(
        tensor=tensor,
        name=names.get(tensor, tensor),
        shape=tuple(int(dim) if dim >= 0 else "?" for dim in dims),
        dtype="string" if detail["dtype"] in (np.bytes_, np.str_) else np.dtype(detail["dtype"]).name,
    )


def _signature(interpreter: Any, wanted: str, request: ConvertRequest) -> dict[str, str]:
    """Tensor -> its name in the signature that is wanted.

    Raises:
        ModelError: there is no such signature.
    """
    if not wanted:
        return {}
    known = interpreter.get_signature_list()
    if wanted not in known:
        raise ModelError(
            f"{request.source.name!r} has no signature {wanted!r}{near(wanted, list(known))}; "
            f"signatures: {', '.join(known) or 'none'}",
            hint=f"models.{request.name}.convert.with.signature chooses one; without it names are those of the tensors",
        )
    full = interpreter._get_full_signature_list()[wanted]  # noqa: SLF001 - the public list has no tensors
    by_index = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
    return {by_index[index]: name for part in ("inputs", "outputs") for name, index in full[part].items()}


def _open_outputs(interpreter: Any, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> tuple[Port, ...]:
    """Outputs whose shape the file leaves open; ONNX's inference says what follows from the inputs."""
    return tuple(replace(port, shape=None) if "?" in (port.shape or ()) else port for port in outputs)


def _run(interpreter: Any, feed: dict[str, Any]) -> Any:
    """Runs one sample from the initial state.

    Returns:
        A function from a tensor's name to its value, or None where the interpreter did not keep it.
    """
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    resized = False
    for name, array in feed.items():
        if tuple(details[name]["shape"]) != array.shape:
            interpreter.resize_tensor_input(details[name]["index"], array.shape, strict=True)
            resized = True
    if resized:
        interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    for name, array in feed.items():
        interpreter.set_tensor(details[name]["index"], array)
    interpreter.invoke()
    indices = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}

    def found(name: str) -> Any:
        try:
            return interpreter.get_tensor(indices[name])
        except ValueError:
            return None

    return found
