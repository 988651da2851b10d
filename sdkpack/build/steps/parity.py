"""Parity: does the variant still compute what the author's model computes? The answer goes into the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.fingerprint import needed_distributions
from sdkpack.build.npz import write_npz
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples, given_shapes
from sdkpack.build.steps.variants import Opener, entries_of
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import Difference, compare, tolerance_for
from sdkpack.errors import ParityError
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from sdkpack.build.steps.compiling import Toolchain

__all__ = ["ParitySettings", "check_parity", "variant_inputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParitySettings:
    """How a variant is compared with its source."""

    limit_s: float = 120.0
    """How long the reference may take. It runs once, then the store has the answer."""
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def variant_inputs(result: StoredResult, model_inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The model's inputs as the variant takes them: a target may fix sizes that the model leaves open."""
    fixed = {
        entry.name: entry.spec() for part in reversed(result.data["parts"]) for entry in entries_of(part["inputs"])
    }
    return tuple(fixed.get(spec.name, spec) for spec in model_inputs)


def check_parity(
    imported: Imported,
    result: StoredResult,
    *,
    opener: Opener,
    model: str,
    sample: Mapping[str, Sequence[int]],
    settings: ParitySettings,
    runtime: Toolchain,
    context: BuildContext,
    store: Store,
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Runs the variant twice and the reference once on one made input, and compares.

    Returns:
        What was found, as JSON of `Evidence` without its step; and the shapes of the inputs.

    Raises:
        ParityError: an output is further off than the precision's tolerance.
        StepError: the variant runs with no input that can be made for it.
    """
    precision = result.data["precision"]
    specs = given_shapes(variant_inputs(result, imported.inputs), sample)
    loaded = opener.open(result, model=model)
    try:
        inputs, first = fit_samples(specs, loaded, seed=settings.seed, what=f"model {model!r}")
        second = loaded(inputs)
    finally:
        loaded.close()
    report = _Report(
        reference=reference_name(),
        samples=[digest_bytes(write_npz(inputs))],
        where={"kind": "host", "runtime": runtime.name},
        tools=needed_distributions([runtime.row]) | {"onnx": reference_name().split()[1]},
        tolerance=tolerance_for(precision),
    )
    findings = [report.determinism(first, second)]
    shapes = {name: list(array.shape) for name, array in inputs.items()}
    if not findings[0]["passed"]:
        context.warn("it gives other outputs for the same inputs each time, so nothing can be compared or recorded")
        return findings, shapes
    try:
        reference = run_reference(
            imported.result.files, inputs, store=store, operators=imported.operators, limit_s=settings.limit_s,
            progress=context.progress,
        )  # fmt: skip
    except NotComparableError as error:
        findings[0]["note"] = f"not compared with the source model: {error}"
        context.warn(findings[0]["note"])
        return findings, shapes
    findings.append(report.parity(first, reference, model=model, runtime=runtime.name, shapes=shapes))
    return findings, shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    reference: str
    samples: list[str]
    where: dict[str, str]
    tools: dict[str, str]
    tolerance: float

    def determinism(self, first: Arrays, second: Arrays) -> dict[str, Any]:
        differences = {name: compare(second[name], first[name]) for name in first}
        passed = all(difference.within(self.tolerance) for difference in differences.values())
        tensors = [self._tensor(name, difference) for name, difference in differences.items()]
        return self._evidence("determinism", passed, tensors) | {"reference": self.where["runtime"]}

    def parity(
        self, outputs: Arrays, reference: Arrays, *, model: str, runtime: str, shapes: Mapping[str, list[int]]
    ) -> dict[str, Any]:
        tensors = []
        for name, expected in reference.items():
            difference = compare(outputs[name], _as_array(expected))
            if not difference.within(self.tolerance):
                reason = difference.reason or f"SNR {difference.snr_db:.1f} dB, cosine {difference.cosine:.4f}"
                raise ParityError(
                    f"model {model!r} on {runtime!r} is not what its source computes: output {name!r} differs, "
                    f"expected a normalised error of at most {self.tolerance:g}, got {difference.normalized_error:.3g} "
                    f"({reason}), for inputs of {_shown(shapes)}",
                    hint="try another precision or other settings of the target; compare versions of the runtime",
                )
            tensors.append(self._tensor(name, difference))
        inputs = f"made inputs of {_shown(shapes)}"
        return self._evidence("parity", True, tensors) | {"note": f"one run on {inputs}; all outputs compared"}

    def _evidence(self, check: str, passed: bool, tensors: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "check": check, "passed": passed, "reference": self.reference, "samples": self.samples,
            "tensors": tensors, "where": self.where, "tools": self.tools,
        }  # fmt: skip

    def _tensor(self, name: str, difference: Difference) -> dict[str, Any]:
        # Infinity has no place in a document; the reader sees `passed` and a note.
        error = difference.normalized_error
        facts: dict[str, Any] = {
            "name": name,
            "normalized_error": _rounded(error) if math.isfinite(error) else 1e308,
            "cosine": _rounded(difference.cosine),
            "tolerance": self.tolerance,
            "passed": difference.within(self.tolerance),
        }
        if math.isfinite(difference.snr_db):
            facts["snr_db"] = _rounded(difference.snr_db)
        return facts


def _rounded(value: float) -> float:
    """Four digits: the rest says more about the processor than about the model."""
    return float(f"{value:.4g}") + 0.0  # negative zero has no place in a manifest


def _as_array(value: Any) -> Any:
    import numpy as np

    return np.asarray(value)


def _shown(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
