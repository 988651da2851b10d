"""TensorFlow graphs: what may not be in them, and how they are frozen and converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sdkpack.errors import ModelError, Problem
from sdkpack_tensorflow.onnx_writer import Port

__all__ = [
    "PYTHON_OPS",
    "check_inference",
    "check_operators",
    "inlined",
    "keep_control_flow",
    "open_outputs",
    "plain_session",
    "pruned",
]

PYTHON_OPS: Final = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
"""Call a Python function that stood in the process that saved the graph."""

_OUTSIDE_OPS: Final = frozenset(
    {
        "ReadFile", "WriteFile", "MatchingFiles", "SaveSlices", "Restore", "RestoreSlice", "ImmutableConst",
        "ReaderReadV2", "TFRecordReaderV2", "TextLineReaderV2", "WholeFileReaderV2", "FixedLengthRecordReaderV2",
        "DebugIdentity", "DebugIdentityV2", "DebugNanCount", "RpcCall", "RpcServer", "RpcClient", "RpcServerStart",
        "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDatasetV2", "SqlDataset",
        "WriteSummary", "CreateSummaryFileWriter", "SummaryWriter", "DatasetToTFRecord", "SaveDatasetV2",
        "LoadDataset", "DataServiceDatasetV2", "DataServiceDatasetV4", "RegisterDatasetV2",
    }
)  # fmt: skip
"""Read or write files or reach other machines, with names that the graph chooses. TensorFlow's own way of loading
variables (RestoreV2) and of saving them (SaveV2) is not among them: every SavedModel has both."""

_RANDOM_OPS: Final = frozenset(
    {
        "RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt", "RandomShuffle", "Multinomial",
        "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2", "StatelessRandomUniform",
        "StatelessRandomUniformV2", "StatelessRandomNormal", "StatelessRandomNormalV2", "StatelessTruncatedNormal",
        "StatelessTruncatedNormalV2", "StatelessRandomUniformIntV2", "StatelessMultinomial", "StatefulUniform",
        "StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulUniformInt",
    }
)  # fmt: skip
_TRIALS: Final = (97, 211)
"""Sizes to begin with: odd, unlike each other and unlike what networks are made of."""
_NORMS: Final = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})


def check_operators(graph_def: Any, what: str) -> None:
    """Looks at every node, functions included, before TensorFlow is given any of them.

    Raises:
        ModelError: operators that call Python, touch files or the network, or are not TensorFlow's own; all of them.
    """
    from tensorflow.python.framework import op_def_registry

    functions = {function.signature.name for function in graph_def.library.function}
    found: dict[str, tuple[str, list[str]]] = {}
    for node in _nodes(graph_def):
        if node.op in PYTHON_OPS:
            reason = "calls a Python function, which no SavedModel can bring along"
        elif node.op in _OUTSIDE_OPS or (node.op == "PrintV2" and _writes_file(node)):
            reason = "reads or writes files, or reaches other machines"
        elif node.op not in functions and op_def_registry.get(node.op) is None:
            reason = "is none of TensorFlow's own operators"
        else:
            continue
        found.setdefault(node.op, (reason, []))[1].append(node.name)
    if found:
        raise ModelError(
            f"{what} uses operators that cannot be taken over: {', '.join(sorted(found))}",
            hint="save a function without them: tf.saved_model.save(model, folder, signatures=...)",
            problems=[
                Problem(path=kind, message=f"{reason}; used by {', '.join(names[:8])}{' ...' if names[8:] else ''}")
                for kind, (reason, names) in sorted(found.items())
            ],
        )


def _nodes(graph_def: Any) -> Iterable[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _writes_file(node: Any) -> bool:
    stream: bytes = node.attr["output_stream"].s
    return stream.startswith(b"file:")


def check_inference(graph_def: Any, what: str) -> None:
    """Looks at a frozen graph for what belongs to training.

    Raises:
        ModelError: operators that draw random numbers or normalise by the batch at hand, with their names; all of them.
    """
    drawn = [node.name for node in _nodes(graph_def) if node.op in _RANDOM_OPS]
    trained = [node.name for node in _nodes(graph_def) if node.op in _NORMS and _is_training(node)]
    findings = []
    if drawn:
        findings.append(Problem(path=", ".join(drawn[:8]), message="draws random numbers (a dropout that stays on?)"))
    if trained:
        findings.append(Problem(path=", ".join(trained[:8]), message="batch normalisation in training mode"))
    if findings:
        raise ModelError(
            f"{what} is not in inference mode, so two runs of it differ",
            hint="save it with training=False",
            problems=findings,
        )


def _is_training(node: Any) -> bool:
    # TensorFlow's default, where the attribute is absent, is training.
    return bool(node.attr["is_training"].b) if "is_training" in node.attr else True


def keep_control_flow(graph_def: Any) -> None:
    """Loops stay one operator each. TensorFlow would lower them to jumps (Enter, Switch, Exit), for which tf2onnx has
    no counterpart when they hold lists. Devices and places are of the machine that saved the graph. Changes
    `graph_def`."""
    for node in _nodes(graph_def):
        node.device = ""
        for attribute in ("_lower_using_switch_merge", "_class"):
            node.attr.pop(attribute, None)


def inlined(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A frozen graph between tensors, without calls of functions. Names stay."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    def imported() -> None:
        tf.import_graph_def(graph_def, name="")

    wrapped = tf.compat.v1.wrap_function(imported, [])
    take = wrapped.graph.as_graph_element
    function = wrapped.prune([take(name) for name in inputs], [take(name) for name in outputs])
    return tf_loader.from_function(function, list(inputs), list(outputs))


def pruned(graph_def: Any, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[Any, tuple[Port, ...]]:
    """The part of an inlined graph that the outputs need, so that what an unwanted one needs counts for nothing.

    Returns:
        The graph, and the outputs; an inlined call leaves an operator that all of its results pass through, which the
        outputs then no longer do.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    taken = {port.tensor for port in inputs}
    behind = []
    for port in outputs:
        tensor = _behind(port.tensor, nodes)
        free = tensor not in taken and nodes[tensor.partition(":")[0]].op != "Placeholder"
        tensor = tensor if free else port.tensor
        taken.add(tensor)
        behind.append(replace(port, tensor=tensor))
    keep = sorted({port.tensor.partition(":")[0] for port in (*inputs, *behind)})
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, keep), tuple(behind)


def _behind(tensor: str, nodes: Mapping[str, Any]) -> str:
    name, _, port = tensor.partition(":")
    node = nodes[name]
    if node.op != "IdentityN":
        return tensor
    source = node.input[int(port or 0)]
    return _behind(source if ":" in source else f"{source}:0", nodes)


def plain_session(graph: Any) -> Any:
    """A session that computes the graph as it is: TensorFlow's own optimiser fuses away what is to be looked at."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
    return tf.compat.v1.Session(graph=graph, config=config)


def open_outputs(graph_def: Any, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[Port, ...]:
    """The outputs with names for those open dimensions that are always as large as an open one of the inputs.

    TensorFlow's shape inference is asked for two sets of sizes; nothing is run.
    """
    names = sorted({dim for port in inputs for dim in port.shape or () if isinstance(dim, str)})
    trials = [{name: start + 2 * index for index, name in enumerate(names)} for start in _TRIALS]
    shapes = [_shapes(graph_def, inputs, outputs, sizes) for sizes in trials]
    return tuple(
        port if any(shape is None for shape in found) else replace(port, shape=_or(_named(found, trials), port.shape))
        for port, *found in zip(outputs, *shapes, strict=True)
    )


def _or(shape: tuple[int | str, ...], other: tuple[int | str, ...] | None) -> tuple[int | str, ...]:
    """What is known, else what the source says."""
    if other is None or len(other) != len(shape):
        return shape
    return tuple(theirs if mine == "?" else mine for mine, theirs in zip(shape, other, strict=True))


def _shapes(
    graph_def: Any, inputs: Sequence[Port], outputs: Sequence[Port], sizes: Mapping[str, int]
) -> list[list[int | None] | None]:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        dtypes = {port.tensor: graph.get_tensor_by_name(port.tensor).dtype for port in inputs}
    with tf.Graph().as_default():
        fed = {
            port.tensor: tf.compat.v1.placeholder(
                dtypes[port.tensor],
                None if port.shape is None else [dim if isinstance(dim, int) else sizes[dim] for dim in port.shape],
            )
            for port in inputs
        }
        try:
            found = tf.import_graph_def(
                graph_def, name="", input_map=fed, return_elements=[port.tensor for port in outputs]
            )
        except ValueError:
            # The sizes of the trial are too small for the network, which says nothing about its names.
            return [None for _ in outputs]
    return [None if tensor.shape.rank is None else tensor.shape.as_list() for tensor in found]


def _named(found: Sequence[Any], trials: Sequence[Mapping[str, int]]) -> tuple[int | str, ...]:
    dims: list[int | str] = []
    for sizes in zip(*found, strict=True):
        fixed = sizes[0] is not None and all(size == sizes[0] for size in sizes)
        name = next(
            (name for name in trials[0] if all(size == trial[name] for size, trial in zip(sizes, trials, strict=True))),
            "?",
        )
        dims.append(sizes[0] if fixed else name)
    return tuple(dims)
