"""SavedModel folders, loaded the way TensorFlow 1 did: it also reads what TensorFlow 2 with Keras 3 does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError
from sdkpack.plugin import ConvertRequest, ConvertResult, EvaluateRequest, EvaluateResult, Probe, StepContext
from sdkpack_tensorflow.onnx_writer import Port, choose_opset, convert_graph, finish, save
from sdkpack_tensorflow.params import SavedModelParams
from sdkpack_tensorflow.ports import apply_request, named_shape, near, selected
from sdkpack_tensorflow.runs import Inner, feed_of, read_sample, write_outputs
from sdkpack_tensorflow.tf_graph import (
    check_inference,
    check_operators,
    inlined,
    keep_control_flow,
    open_outputs,
    plain_session,
    pruned,
)
from sdkpack_tensorflow.toolchain import fingerprint, load_tensorflow, read_safely, tools

__all__ = ["SavedModelConverter"]

_INNER: Final = "__saved_model_"
_VARIABLES: Final = frozenset({"VarHandleOp", "VariableV2", "Variable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    """One signature of one graph of a folder."""

    tags: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class SavedModelConverter:
    """One signature of a SavedModel."""

    def probe(self) -> Probe:
        return Probe(ok=True, fingerprint=fingerprint())

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        """Freezes the variables into the graph and converts it. No initialiser but the folder's own one runs."""
        opset = choose_opset(request)
        context.progress(0.05, "loading TensorFlow")
        load_tensorflow()
        what = repr(request.source.name)
        context.progress(0.2, f"reading {request.source.name}")
        function = read_function(request)
        with _session(request, function) as session:
            frozen, tables = _frozen(session, function, what, context)
        frozen, outputs = pruned(frozen, function.inputs, function.outputs)
        check_inference(frozen, what)
        context.progress(0.6, "writing ONNX")
        with read_safely(f"{what} cannot be converted", log=context.log):
            model = convert_graph(
                opset=opset, inputs=function.inputs, outputs=outputs, what=what, frozen=frozen, tables=tables
            )
        context.progress(0.9, "checking")
        notes = finish(model, function.inputs, open_outputs(frozen, function.inputs, outputs))
        path = save(model, context.work / "model.onnx")
        return ConvertResult(model=path, notes=notes, tools=tools("tensorflow", "tf2onnx", "onnx"))

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Runs the folder's own graph with its own variables; inner tensors are of the same graph, frozen."""
        import tensorflow as tf

        load_tensorflow()
        conversion = request.conversion
        what = repr(conversion.source.name)
        function = read_function(conversion)
        inner = Inner.of(request)
        context.progress(0.1, f"loading {conversion.source.name}")
        paths = []
        with _session(conversion, function) as session:
            frozen = _frozen(session, function, what, context)[0] if inner.producers else None
            for number, sample in enumerate(request.samples):
                context.progress(number / len(request.samples), f"sample {number + 1} of {len(request.samples)}")
                arrays = read_sample(sample, function.inputs)
                feed = feed_of(arrays, function.inputs)
                with read_safely(f"{what} does not take {sample.name}", log=context.log):
                    values = session.run({port.name: port.tensor for port in function.outputs}, feed)
                if frozen is not None:
                    with tf.Graph().as_default() as graph, plain_session(graph) as other:
                        tf.import_graph_def(frozen, name="")
                        values |= inner.of_graph(graph, arrays, lambda fetches: other.run(fetches, feed))  # noqa: B023
                paths.append(write_outputs(context.work / f"{number}.npz", values))
        return EvaluateResult(outputs=tuple(paths), tools=tools("tensorflow"))


def read_function(request: ConvertRequest) -> _Function:
    """Chooses the graph by its tags and the signature by its name, and checks the operators, all without TensorFlow's
    loader.

    Raises:
        ModelError: damaged, no such tags or signature, operators that cannot be taken over.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    params = request.params if isinstance(request.params, SavedModelParams) else SavedModelParams()
    folder, name = request.source, request.name
    file = folder / "saved_model.pb"
    if not file.is_file():
        raise ModelError(f"{folder.name!r} is no SavedModel: it has no saved_model.pb", hint="name the folder itself")
    saved = SavedModel()
    with read_safely(f"{folder.name}/saved_model.pb is damaged", hint="copy it anew, or save the model again"):
        saved.ParseFromString(file.read_bytes())
    tagged = {tuple(sorted(graph.meta_info_def.tags)): graph for graph in saved.meta_graphs}
    graph = tagged.get(tuple(sorted(params.tags)))
    if graph is None:
        there = "; ".join(", ".join(tags) or "(no tags)" for tags in tagged) or "none at all"
        raise ModelError(
            f"{folder.name!r} has no graph with the tags {', '.join(params.tags) or '(no tags)'}; it has: {there}",
            hint=f"models.{name}.convert.with.tags chooses one",
        )
    check_operators(graph.graph_def, repr(folder.name))
    signatures = {key: found for key, found in graph.signature_def.items() if not key.startswith(_INNER)}
    signature = signatures.get(params.signature)
    if signature is None or not signature.outputs:
        there = ", ".join(sorted(signatures)) or "none: save it with tf.saved_model.save(..., signatures=...)"
        raise ModelError(
            f"{folder.name!r} has no signature {params.signature!r}{near(params.signature, list(signatures))}; "
            f"signatures: {there}",
            hint=f"models.{name}.convert.with.signature chooses one",
        )
    _check_variables(graph.graph_def, folder)
    inputs = _ports(signature.inputs)
    outputs = selected(_ports(signature.outputs), params.outputs, request)
    return _Function(
        tags=tuple(params.tags), inputs=apply_request(inputs, params.inputs_as_nchw, request), outputs=outputs
    )


def _ports(infos: Any) -> list[Port]:
    """By name: protobuf's maps have no order of their own.

    Raises:
        ModelError: a tensor that is none of numbers, or of several parts (sparse, ragged); all of them.
    """
    import tensorflow as tf

    ports, odd = [], []
    for name in sorted(infos):
        info = infos[name]
        if info.WhichOneof("encoding") != "name":
            odd.append(name)
            continue
        shape = None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
        dtype = tf.dtypes.as_dtype(info.dtype)
        ports.append(
            Port(
                tensor=info.name,
                name=name,
                shape=None if shape is None else named_shape(name, shape),
                dtype="string" if dtype == tf.string else dtype.name,
            )
        )
    if odd:
        raise ModelError(f"sparse and ragged tensors are not supported: {', '.join(odd)}")
    return ports


def _check_variables(graph_def: Any, folder: Path) -> None:
    nodes = [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]
    if not any(node.op in _VARIABLES for node in nodes):
        return
    missing = [] if (folder / "variables/variables.index").is_file() else ["variables/variables.index"]
    if not list((folder / "variables").glob("variables.data-*")):
        missing.append("variables/variables.data-00000-of-00001")
    if missing:
        raise ModelError(
            f"{folder.name!r} has variables, and their values are missing: {', '.join(missing)}",
            hint="copy the whole folder",
        )


@contextmanager
def _session(request: ConvertRequest, function: _Function) -> Iterator[Any]:
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        with read_safely(f"{request.source.name!r} cannot be loaded", hint="copy the folder anew, or save it again"):
            tf.compat.v1.saved_model.load(session, list(function.tags), str(request.source))
        yield session


def _frozen(session: Any, function: _Function, what: str, context: StepContext) -> tuple[Any, dict[str, Any]]:
    """The graph between inputs and outputs with its variables as constants and functions inlined, and the content of
    its lookup tables."""
    import tensorflow as tf

    inputs = [port.tensor for port in function.inputs]
    outputs = [port.tensor for port in function.outputs]
    with read_safely(f"the variables of {what} cannot be read", log=context.log):
        graph_def = session.graph.as_graph_def(add_shapes=True)
        keep_control_flow(graph_def)
        keep = sorted({name.partition(":")[0] for name in (*inputs, *outputs)})
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph_def, keep)
        tables = _tables(session, frozen)
    with read_safely(f"{what} cannot be frozen", log=context.log):
        return inlined(frozen, inputs, outputs), tables


def _tables(session: Any, graph_def: Any) -> dict[str, Any]:
    from tensorflow.python.ops import lookup_ops
    from tf2onnx.tf_utils import get_hash_table_info

    found: dict[str, Any] = {}
    with session.graph.as_default():
        for info in get_hash_table_info(graph_def):
            if info.shared_name is None:
                continue
            table = lookup_ops.hash_table_v2(info.key_dtype, info.val_dtype, shared_name=info.shared_name)
            found[info.shared_name] = tuple(
                session.run(lookup_ops.lookup_table_export_v2(table, info.key_dtype, info.val_dtype))
            )
    return found
