"""ONNX's own reference implementation as the independent witness of what a model computes.

It is written in NumPy, one operator at a time, after the operators' definitions, so it shares no kernel and no
optimisation with a runtime. It is slow, which bounds what can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sdkpack.build.steps.reference_operators import corrected_operators
from sdkpack.build.store import Store, StoredFile
from sdkpack.model.join import join_inline
from sdkpack.model.table import read_table

__all__ = ["RANDOM_OPERATORS", "NotComparableError", "reference_name", "run_model", "run_reference"]

RANDOM_OPERATORS: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators whose outputs differ from one implementation to the next, also with a seed."""

_MAX_WEIGHTS_BYTES: Final = 1 << 30
# What the reference raises where it lacks an operator, a type or a case, or meets a fault of its own.
_FAILURES: Final = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, RuntimeError, TypeError,
    ValueError, Warning,
)  # fmt: skip


class NotComparableError(Exception):
    """Why the reference has no answer.

    Args:
        reason: for the author.
        whatever: it has none for other inputs either.
    """

    def __init__(self, reason: str, *, whatever: bool = True) -> None:
        super().__init__(reason)
        self.whatever = whatever


def reference_name() -> str:
    import onnx

    return f"onnx.reference {onnx.__version__}"


def run_reference(
    files: Mapping[str, StoredFile],
    inputs: Mapping[str, Any],
    *,
    store: Store,
    operators: Sequence[tuple[str, str]],
    limit_s: float,
    progress: Callable[[float | None, str], None],
    inner: Sequence[str] = (),
) -> dict[str, Any]:
    """The outputs by name, and with them the tensors named by `inner`.

    Args:
        files: graph, weights and table of the imported model.
        inputs: arrays by name.
        store: where the files are.
        operators: domain and name of what the model uses.
        limit_s: seconds that it may take; checked between nodes.
        progress: told the share of nodes that are done; what it raises passes.
        inner: names of tensors of the graph itself; all of its tensors are held until the end for them.

    Raises:
        NotComparableError: the reference cannot compute this model, or not in time.
    """
    return run_model(
        lambda: _proto(files, store), inputs, operators=operators, weights_bytes=files["weights"].size_bytes,
        limit_s=limit_s, progress=progress, inner=inner,
    )  # fmt: skip


def run_model(
    read: Callable[[], Any],
    inputs: Mapping[str, Any],
    *,
    operators: Sequence[tuple[str, str]],
    weights_bytes: int,
    limit_s: float,
    progress: Callable[[float | None, str], None],
    inner: Sequence[str] = (),
) -> dict[str, Any]:
    """The same for a model that is not in a store.

    Args:
        read: gives the `ModelProto`, weights inside; only called for a model that can be computed.
        inputs: arrays by name.
        operators: domain and name of what the model uses.
        weights_bytes: how large its weights are.
        limit_s: seconds that it may take; checked between nodes.
        progress: as for `run_reference`.
        inner: as for `run_reference`.

    Raises:
        NotComparableError: the reference cannot compute this model, or not in time.
    """
    random = sorted(name for domain, name in operators if not domain and name in RANDOM_OPERATORS)
    if random:
        raise NotComparableError(f"it draws random numbers ({', '.join(random)})")
    if weights_bytes > _MAX_WEIGHTS_BYTES:
        raise NotComparableError(f"its weights are larger than {_MAX_WEIGHTS_BYTES >> 30} GiB")
    import numpy as np

    watch = _Watch(limit_s, progress)
    try:
        evaluator = _evaluator(read(), watch)
        with np.errstate(all="ignore"):
            if inner:
                found: dict[str, Any] = evaluator.run(None, dict(inputs), intermediate=True)
                return {name: found[name] for name in (*inner, *evaluator.output_names) if name in found}
            outputs = evaluator.run(None, dict(inputs))
    except _FAILURES as error:
        text = " ".join(str(error).split())[:200]
        raise NotComparableError(f"the reference failed: {type(error).__name__}: {text}", whatever=False) from error
    return dict(zip(evaluator.output_names, outputs, strict=True))


class _Watch:
    """Looks at the clock before each node."""

    def __init__(self, limit_s: float, progress: Callable[[float | None, str], None]) -> None:
        self._until = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._progress = progress
        self.total = 0
        self._done = 0

    def node(self) -> None:
        if time.monotonic() > self._until:
            raise NotComparableError(f"the reference takes longer than {self._limit_s:g} s")
        self._done += 1
        # Nodes of subgraphs run more often than they stand there.
        self._progress(min(self._done / max(self.total, 1), 1.0), "comparing with the reference")


def _evaluator(proto: Any, watch: _Watch) -> Any:
    from onnx.reference import ReferenceEvaluator

    opset = next((entry.version for entry in proto.opset_import if not entry.domain), 0)
    evaluator = ReferenceEvaluator(proto, new_ops=corrected_operators(opset))
    watch.total = len(evaluator.rt_nodes_)
    evaluator.rt_nodes_ = [_Watched(node, watch) for node in evaluator.rt_nodes_]
    return evaluator


class _Watched:
    """A node of the reference that tells before it runs; in all else the node itself."""

    def __init__(self, node: Any, watch: _Watch) -> None:
        self._node = node
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def run(self, *args: Any, **options: Any) -> Any:
        self._watch.node()
        if self._node.op_type in _AS_GIVEN or not any(_is_half(value) for value in args):
            return self._node.run(*args, **options)
        # The definitions say nothing of how sums are held. Processors add halves up in float32 and round once; NumPy
        # rounds after each addition, by which a convolution loses all but its first digit.
        outputs = self._node.run(*(_as(value, "float16", "float32") for value in args), **options)
        return tuple(_as(value, "float32", "float16") for value in outputs)


_AS_GIVEN: Final = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape", "If", "Loop", "Scan"})
"""Operators that compute nothing with their inputs, or whose inputs are none of their own."""


def _is_half(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "float16"


def _as(value: Any, old: str, new: str) -> Any:
    return value.astype(new) if str(getattr(value, "dtype", "")) == old else value


def _proto(files: Mapping[str, StoredFile], store: Store) -> Any:
    from onnx import ModelProto

    weights = store.read(files["weights"])
    table = read_table(store.read(files["tensors"]), len(weights))
    proto = ModelProto()
    proto.ParseFromString(b"".join(join_inline(store.read(files["graph"]), table, weights)))
    return proto
