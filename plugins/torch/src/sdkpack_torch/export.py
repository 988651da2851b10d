"""From a program of torch.export to ONNX."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch.onnx._internal.exporter import _core, _fx_passes, _registration

from sdkpack.errors import ModelError
from sdkpack_torch.faults import ANY_FAULT, brief, listed
from sdkpack_torch.params import OPSETS
from sdkpack_torch.words import words

__all__ = ["choose_opset", "decomposed", "flat_names", "quietly", "rename", "save", "to_onnx"]

_DEFAULT_OPSET: Final = 20
_NATIVE_OPSET: Final = 18
"""What torch's operators are written in; the exporter says 18 silently where an older one is asked for."""
_MAX_PROTO_BYTES: Final = (2 << 30) - (64 << 20)
"""Protobuf reads 2 GiB at most; the graph needs some of it."""
_TRAINING: Final = words("training train use_input_stats")
"""Names of the arguments by which torch's operators are told that they train."""
_MAY_TRAIN: Final = words(
    "batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional dropout native_dropout "
    "feature_dropout alpha_dropout feature_alpha_dropout rrelu rrelu_with_noise lstm gru"
)
_RANDOM: Final = words(
    "rand rand_like randn randn_like randint randint_like randperm bernoulli multinomial normal poisson "
    "exponential geometric uniform"
)


def choose_opset(wanted: int | None, newest: int | None) -> int:
    """The version to write: the author's, else 20 or the newest that the targets take.

    Raises:
        ModelError: the author's is newer than the targets take, or these take only what cannot be written.
    """
    limit = OPSETS[-1] if newest is None else newest
    if wanted is not None and wanted > limit:
        raise ModelError(
            f"convert.with.opset is {wanted}, the targets take {limit} at most",
            hint=f"set it to {limit}, or leave it out",
        )
    if limit < OPSETS[0]:
        raise ModelError(
            f"the targets take opset {limit} at most, torch models are written in {OPSETS[0]} to {OPSETS[-1]}",
            hint="choose a runtime that takes a newer opset",
        )
    return wanted if wanted is not None else min(_DEFAULT_OPSET, limit)


@contextmanager
def quietly() -> Iterator[None]:
    """Without torch's own warnings about itself; what the author should know stands in notes."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decomposed(program: Any) -> Any:
    """The program in the operators that the exporter knows; its values' names are those of the ONNX model."""
    return _fx_passes.decompose_with_registry(program, _registration.ONNXRegistry.from_torchlib())


def to_onnx(program: Any, opset: int) -> tuple[Any, tuple[str, ...]]:
    """The model (onnx_ir), and notes.

    Raises:
        ModelError: it trains, or uses operators that ONNX cannot say; all of them named.
    """
    notes = _check_inference(program)
    try:
        with quietly():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=max(opset, _NATIVE_OPSET), verbose=False, optimize=True
            )
    except ANY_FAULT as error:
        missing = _unsupported(program)
        if missing:
            raise ModelError(
                f"ONNX has no counterpart of the operators {listed(missing)}",
                hint="replace them in the model, or give them a decomposition before torch.export",
            ) from error
        raise ModelError(f"torch's exporter failed: {brief(_cause(error))}", hint="the log has all of it") from error
    _forget_paths(made.model)
    return made.model, notes


def _check_inference(program: Any) -> tuple[str, ...]:
    training: list[str] = []
    random: list[str] = []
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            name = _operator(node)
            if name in _MAY_TRAIN and _trains(node):
                training.append(f"{node.name} ({name})")
            elif name in _RANDOM:
                random.append(f"{node.name} ({name})")
    if training:
        raise ModelError(
            f"the program is in training mode: {listed(training)}",
            hint="call model.eval() before torch.export.export, and save it again",
        )
    if random:
        return (f"the model is not deterministic: it draws random numbers in {listed(random)}",)
    return ()


def _operator(node: Any) -> str:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return ""
    return str(node.target._schema.name.partition("::")[2].rstrip("_"))


def _trains(node: Any) -> bool:
    """Whether an operator is told to train, by name or by place."""
    for place, argument in enumerate(node.target._schema.arguments):
        if argument.name in _TRAINING:
            value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name, False)
            return value is True
    return False


def _unsupported(program: Any) -> list[str]:
    registry = _registration.ONNXRegistry.from_torchlib()
    try:
        with quietly():
            graph = decomposed(program).graph_module
    except ANY_FAULT:
        graph = program.graph_module
    found = []
    for module in graph.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            if _operator(node) and not registry.get_decomps(node.target):
                found.append(node.target._schema.name)
    return sorted(set(found) - {"aten::_assert_scalar", "aten::_assert_tensor_metadata", "aten::_assert_async"})


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _forget_paths(model: Any) -> None:
    """Nodes carry the author's stack traces: paths and lines of source that are nobody else's business."""
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    for graph in graphs:
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    model.metadata_props.clear()


def flat_names(tree: Any, prefix: str = "") -> list[str]:
    """A name for each leaf of what a model returns: the keys of dictionaries, places elsewhere."""
    if isinstance(tree, Mapping):
        pairs = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        pairs = list(zip(tree._fields, tree, strict=True))
    elif isinstance(tree, list | tuple):
        pairs = [(str(place), value) for place, value in enumerate(tree)]
        if len(pairs) == 1 and not prefix:
            return flat_names(tree[0])
        prefix = prefix or "output"
    else:
        return [prefix or "output"]
    return [name for key, value in pairs for name in flat_names(value, f"{prefix}_{key}" if prefix else key)]


def rename(model: Any, inputs: Sequence[str], outputs: Sequence[str], symbols: Mapping[str, str]) -> None:
    """Gives inputs, outputs and open axes their names.

    Raises:
        ModelError: another number of names than of inputs or outputs.
    """
    import onnx_ir as ir

    for what, names, values in (("input", inputs, model.graph.inputs), ("output", outputs, model.graph.outputs)):
        if len(names) != len(values):
            raise ModelError(
                f"the model has {len(values)} {what}s, {len(names)} names are given: {listed(list(names))}",
                hint=f"correct convert.with.{what}_names",
            )
    seen = {id(value) for value in (*model.graph.inputs, *model.graph.initializers.values())}
    for place, value in enumerate(model.graph.outputs):
        if id(value) in seen:
            # Handed through, or given twice: it needs a name of its own.
            copy = ir.node("Identity", [value])
            copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
            model.graph.append(copy)
            model.graph.outputs[place] = copy.outputs[0]
        seen.add(id(model.graph.outputs[place]))
    wanted = {*inputs, *outputs}
    own = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    values = [*model.graph.initializers.values(), *(out for node in model.graph.all_nodes() for out in node.outputs)]
    for value in values:
        if value.name in wanted and id(value) not in own:
            value.name = f"{value.name}.inner"
    for value, name in (*zip(model.graph.inputs, inputs, strict=True), *zip(model.graph.outputs, outputs, strict=True)):
        value.name = name
    _rename_symbols([*model.graph.inputs, *values, *model.graph.outputs], symbols)
    for place, node in enumerate(model.graph.all_nodes()):
        node.name = node.name or f"{node.op_type}_{place}"


def _rename_symbols(values: Sequence[Any], symbols: Mapping[str, str]) -> None:
    import onnx_ir as ir

    if not symbols:
        return
    pattern = re.compile(r"\b(" + "|".join(re.escape(name) for name in symbols) + r")\b")
    for value in values:
        if value.shape is not None:
            dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
            value.shape = ir.Shape(
                [pattern.sub(lambda match: symbols[match[1]], dim) if isinstance(dim, str) else dim for dim in dims]
            )


def save(model: Any, path: Path, opset: int) -> None:
    """Writes one file, or with external data beside it where it would be above 2 GiB.

    Raises:
        ModelError: it cannot be said in an opset older than 18, or breaks a rule of ONNX.
    """
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    large = size > _MAX_PROTO_BYTES
    if large:
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        ir.save(model, path)
    if opset < _NATIVE_OPSET:
        _lower(path, opset, large)
    with quietly():
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as error:
            raise ModelError(f"torch's exporter wrote a model that breaks ONNX's rules: {brief(error)}") from error


def _lower(path: Path, opset: int, large: bool) -> None:
    refusal = f"the model cannot be said in opset {opset}"
    if large:
        raise ModelError(f"{refusal}: models above 2 GiB cannot be changed to older ones", hint="use opset 18 or later")
    try:
        lowered = onnx.version_converter.convert_version(onnx.load(path), opset)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{refusal}: {brief(error)}", hint="use opset 18 or later") from error
    for node in lowered.graph.node:
        _drop_defaults(node, opset)
    onnx.save(lowered, path)


def _drop_defaults(node: Any, opset: int) -> None:
    """ONNX's version converter keeps attributes that the older operator lacks: at their default they say nothing."""
    if node.domain or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return
    older, newer = (onnx.defs.get_schema(node.op_type, version) for version in (opset, _NATIVE_OPSET))
    for attribute in [each for each in node.attribute if each.name not in older.attributes]:
        default = newer.attributes[attribute.name].default_value if attribute.name in newer.attributes else None
        if default is not None and onnx.helper.get_attribute_value(default) == onnx.helper.get_attribute_value(
            attribute
        ):
            node.attribute.remove(attribute)


_core.logger.setLevel(logging.ERROR)
