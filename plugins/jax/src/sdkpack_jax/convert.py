"""JAX to ONNX through jax2onnx, and JAX's own answers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    Probe,
    SniffRequest,
    SniffResult,
    StepContext,
)
from sdkpack.types import TensorSpec
from sdkpack_jax.function import Function, load
from sdkpack_jax.pooling import pool_two_axes

__all__ = ["JaxConverter"]

_OLDEST_OPSET, _NEWEST_OPSET, _DEFAULT_OPSET = 17, 23, 18
_SIZES: Final = (2, 3)
"""Open dimensions are tried with these: a graph that fixed the first one fails on the second."""


class JaxConverter:
    """A function to ONNX."""

    def probe(self) -> Probe:
        names = ("jax2onnx", "jax", "jaxlib", "numpy", "onnx")
        return Probe(ok=True, fingerprint=", ".join(f"{name} {version(name)}" for name in names))

    def sniff(self, request: SniffRequest) -> SniffResult:
        """Never called: what a Python file is, nobody can tell."""
        return SniffResult(score=0.0)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        context.progress(0.05, f"loading {request.source.name}")
        function = load(request, context.work)
        opset = _opset_for(request.opset)
        names = function.names(_examples(request.inputs, _SIZES[0]))
        taken = {spec.name for spec in request.inputs}
        names = tuple(f"output_{name}" if name in taken else name for name in names)
        context.progress(0.3, "exporting")
        model = _exported(function, request.inputs, names, opset)
        path = context.work / "model.onnx"
        context.progress(0.8, "checking")
        _save(model, path)
        _try(path, request.inputs, function)
        return ConvertResult(model=path, tools=_tools())

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        """Calls the function on each sample."""
        import jax
        import numpy as np
        import onnx

        function = load(request.conversion, context.work)
        names = [output.name for output in onnx.load(request.model, load_external_data=False).graph.output]
        paths = []
        for number, sample in enumerate(request.samples):
            context.progress(number / len(request.samples), f"sample {number + 1} of {len(request.samples)}")
            with np.load(sample, allow_pickle=False) as stored:
                inputs = [jax.numpy.asarray(stored[spec.name]) for spec in request.conversion.inputs]
            leaves = jax.tree_util.tree_leaves(function.run(function.call, inputs))
            path = context.work / f"answer-{number}.npz"
            answers: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in zip(names, leaves, strict=True)}
            np.savez(path, **answers)
            paths.append(path)
        return EvaluateResult(outputs=tuple(paths), tools=_tools())


def _tools() -> dict[str, str]:
    return {name: version(name) for name in ("jax", "jaxlib", "jax2onnx", "onnx")}


def _opset_for(asked: int | None) -> int:
    if asked is not None and asked < _OLDEST_OPSET:
        raise ModelError(
            f"the targets take opset {asked}, jax2onnx writes {_OLDEST_OPSET} or newer",
            hint="drop the target with the oldest opset, or use a newer version of its runtime",
        )
    return min(asked or _DEFAULT_OPSET, _NEWEST_OPSET)


def _examples(specs: Sequence[TensorSpec], size: int) -> list[Any]:
    """One array an input; every open dimension is `size`, plus its place among the names, so that none are the same."""
    import jax

    names = sorted({dim for spec in specs for dim in spec.shape if isinstance(dim, str)})
    sizes = {name: size + 2 * place for place, name in enumerate(names)}
    shapes = [[dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape] for spec in specs]
    return [jax.numpy.ones(shape, spec.dtype) for shape, spec in zip(shapes, specs, strict=True)]


def _exported(function: Function, specs: Sequence[TensorSpec], names: Sequence[str], opset: int) -> Any:
    import jax
    from jax2onnx import to_onnx

    inputs = [jax.ShapeDtypeStruct(spec.shape, spec.dtype) for spec in specs]
    try:
        return to_onnx(
            function.call, inputs, opset=opset, model_name=function.name.partition(":")[2],
            input_names=[spec.name for spec in specs], output_names=list(names),
        )  # fmt: skip
    # The function has run on arrays; what fails now is a use of JAX that jax2onnx, or an open size, does not allow.
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ModelError(
            f"jax2onnx cannot convert {function.name!r}: {type(error).__name__}: {lines[0][:300] if lines else ''}",
            hint="declare fixed sizes, or write that part with other functions of jax.numpy or jax.lax",
        ) from error


def _save(model: Any, path: Path) -> None:
    import onnx

    pool_two_axes(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _try(path: Path, specs: Sequence[TensorSpec], function: Function) -> None:
    """Runs the graph on two sizes.

    Raises:
        StepError: it does not run, or gives other shapes than the function does.
    """
    import jax
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    for size in _SIZES:
        examples = _examples(specs, size)
        wanted = [leaf.shape for leaf in jax.tree_util.tree_leaves(function.run(function.call, examples))]
        feeds = {spec.name: np.asarray(example) for spec, example in zip(specs, examples, strict=True)}
        if any(example.dtype.name == "bfloat16" for example in examples):
            return  # no NumPy type that ONNX Runtime takes
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            found = [output.shape for output in session.run(None, feeds)]
        # ONNX Runtime's exceptions have no base of their own.
        except Exception as error:
            raise _not_running(str(error)) from error
        if found != wanted:
            raise _not_running(f"it gives {found}, the function {wanted}")


def _not_running(reason: str) -> StepError:
    return StepError(
        f"jax2onnx wrote a graph that is not the function: {' '.join(reason.split())[:300]}",
        hint="declare fixed sizes, or write that part with other functions of jax.numpy or jax.lax",
    )
