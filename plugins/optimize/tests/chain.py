"""Runs passes as the core does, without its guard: what comes out is the passes' own doing."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from sdkpack.errors import StepError
from sdkpack.host.registry import Registered, Registry, load_class
from sdkpack.plugin import ModelFile, OptimizeRequest, OptimizeResult, OptimizerInfo

_MOST_ROUNDS = 6


@dataclass(frozen=True)
class Context:
    """A step's surroundings, without a step."""

    work: Path
    seed: int = 0
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))

    def progress(self, fraction: float | None, text: str = "") -> None: ...

    def run(self, argv: Sequence[str], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None) -> Any:
        raise AssertionError("passes start no programs")


@dataclass
class Chain:
    """What became of a model."""

    path: Path
    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.path)


@cache
def rows() -> tuple[Registered[OptimizerInfo], ...]:
    """All passes in their order."""
    found = Registry.of_modules(["sdkpack_optimize.plugin"]).optimizers()
    return tuple(sorted(found, key=lambda row: len(row.info.after)))


def run_pass(
    name: str, model: onnx.ModelProto | Path, work: Path, *, params: Any = None, opsets: tuple[int, int] | None = None
) -> OptimizeResult:
    """One pass, by its name without `optimize.`."""
    row = next(row for row in rows() if row.info.name == f"optimize.{name}")
    return _run(row, _written(model, work), work, params, opsets)


def edited(name: str, model: onnx.ModelProto, work: Path, **given: Any) -> onnx.ModelProto:
    """The model that a pass makes, which has to be another one."""
    result = run_pass(name, model, work, **given)
    assert result.modified, result.notes
    made = onnx.load(result.model)
    onnx.checker.check_model(made, full_check=True)
    return made


def run_all(model: onnx.ModelProto | Path, work: Path) -> Chain:
    """All passes, in rounds, until nothing changes any more."""
    chain = Chain(_written(model, work))
    for number in range(_MOST_ROUNDS):
        before = chain.path
        for row in rows():
            if number and not row.info.repeats:
                continue
            try:
                result = _run(row, chain.path, work, None, None)
            except StepError as error:
                chain.failed[row.info.name] = error.message
                continue
            chain.notes += result.notes
            if result.modified:
                chain.changed.append(row.info.name)
                chain.path = result.model
        if chain.path == before:
            return chain
    raise AssertionError(f"no end after {_MOST_ROUNDS} rounds: {chain.changed}")


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by ONNX's reference implementation."""
    names = [output.name for output in model.graph.output]
    with np.errstate(all="ignore"):
        return dict(zip(names, ReferenceEvaluator(model).run(names, dict(inputs)), strict=True))


def operators(model: onnx.ModelProto) -> list[str]:
    """Of the main graph, in order."""
    return [node.op_type for node in model.graph.node]


def interface(model: onnx.ModelProto) -> tuple[list[bytes], list[bytes]]:
    """Inputs without a default, and outputs, whole."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.SerializeToString(deterministic=True) for value in model.graph.input if value.name not in defaults]
    return inputs, [value.SerializeToString(deterministic=True) for value in model.graph.output]


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """Names of outputs that are not what they were."""
    for name, reference in expected.items():
        if not same(found[name], reference):
            yield name


def same(found: Any, expected: Any) -> bool:
    """Up to what float32 loses when sums are ordered anew; anything but numbers must be equal."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if expected is None or isinstance(expected, dict | str):
        return bool(found == expected)
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if expected.dtype.kind not in "fc":
        # Narrow floats are opaque to NumPy; their NaN have bytes to compare.
        return bool((found == expected).all()) or bool(
            found.dtype.kind == "V" and found.tobytes() == expected.tobytes()
        )
    scale = np.nanmax(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    tolerance = 1e-2 if expected.dtype.itemsize < 4 else 1e-4
    return bool(np.allclose(found, expected, rtol=tolerance, atol=tolerance * max(float(scale), 1e-6), equal_nan=True))


def _run(
    row: Registered[OptimizerInfo], path: Path, work: Path, params: Any, opsets: tuple[int, int] | None
) -> OptimizeResult:
    folder = work / f"step-{sum(1 for _ in work.iterdir())}"
    folder.mkdir()
    request = OptimizeRequest(
        model=ModelFile(name="model", path=path, inputs=(), outputs=()), params=params, opsets=opsets
    )
    result = load_class(row, row.info.half.load)().optimize(request, Context(folder))
    assert isinstance(result, OptimizeResult)
    assert result.model.is_file()
    assert result.modified == result.model.is_relative_to(folder)
    return _beside_its_data(result, path) if result.modified and result.keeps_data else result


def _beside_its_data(result: OptimizeResult, source: Path) -> OptimizeResult:
    """As the core does: the data stays, and the model goes to it."""
    path = source.parent / f"result-{sum(1 for _ in source.parent.iterdir())}.onnx"
    shutil.copyfile(result.model, path)
    return replace(result, model=path)


def _written(model: onnx.ModelProto | Path, work: Path) -> Path:
    if isinstance(model, Path):
        return model
    path = work / f"given-{sum(1 for _ in work.iterdir())}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
