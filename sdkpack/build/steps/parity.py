"""Parity: does the variant still compute what the author's model computes? The answer goes into the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.fingerprint import needed_distributions
from sdkpack.build.npz import write_npz
from sdkpack.build.steps.absorbing import NOTHING, Absorbable
from sdkpack.build.steps.importing import Imported
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples, given_shapes
from sdkpack.build.steps.specs import entries_of
from sdkpack.build.steps.variants import Opener
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import Difference, compare, tolerance_for
from sdkpack.errors import ParityError
from sdkpack.session.npz import read_npz
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from sdkpack.build.steps.compiling import Toolchain

__all__ = ["ParitySettings", "Verdict", "check_parity", "judge", "variant_inputs"]

_FLOOR: Final = 2.0**-21
"""Four units in the last place of 1 in float32."""
_HALF_FLOOR: Final = 2.0**-8
"""The same in float16. It counts for outputs that are nearly zero everywhere, and for no others."""
_FAINT_SNR_DB: Final = 30.0
"""Noise below 3 % of the signal: wrong weights or a wrong layout are nowhere near."""
_FAINT_BELOW: Final = 1e-3
_SAYS_LITTLE: Final = "all but zero for them, so that agreeing says little"
_LARGEST: Final = 1e308


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
    segment: Absorbable = NOTHING,
    real: Sequence[Path] = (),
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Runs the variant twice and the reference once on one input, and compares.

    Args:
        segment: the steps that the variant absorbed; the reference runs them too.
        real: npz files with inputs; without them, inputs are made.

    Returns:
        What was found, as JSON of `Evidence` without its step; and the shapes of the inputs.

    Raises:
        ParityError: an output is further off than the precision's tolerance.
        StepError: the variant runs with no input that can be made for it.
    """
    # Shapes that the author states are the model's; a segment takes other tensors.
    specs = given_shapes(variant_inputs(result, imported.inputs), {} if result.data["absorbed"] else sample)
    with closing(opener.open(result, model=model)) as loaded:
        if real:
            inputs: Arrays = read_npz(real[0].read_bytes(), where=real[0].name)
            first: Arrays = loaded(inputs)
        else:
            inputs, first = fit_samples(
                specs, loaded, seed=settings.seed, what=f"model {model!r}", ranges=imported.ranges
            )
        second = loaded(inputs)
    report = _Report(
        reference=reference_name(),
        samples=[digest_bytes(write_npz(inputs))],
        where=opener.where(result, runtime.name),
        tools=needed_distributions([runtime.row]) | {"onnx": reference_name().split()[1]},
        tolerance=tolerance_for(result.data["precision"]),
        precision=result.data["precision"],
    )
    findings = [report.determinism(first, second)]
    shapes = {name: list(array.shape) for name, array in inputs.items()}
    if not findings[0]["passed"]:
        context.warn("it gives other outputs for the same inputs each time, so nothing can be compared or recorded")
        return findings, shapes
    try:
        reference = run_reference(
            imported.result.files, segment.inputs_of_model(inputs), store=store, operators=imported.operators,
            limit_s=settings.limit_s, progress=context.progress,
        )  # fmt: skip
        reference = segment.outputs_of_segment(reference)
    except NotComparableError as error:
        findings[0]["note"] = f"not compared with the source model: {error}"
        context.warn(findings[0]["note"])
        return findings, shapes
    parity = report.parity(first, reference, model=model, runtime=runtime.name, shapes=shapes, made=not real)
    if result.data["absorbed"]:
        parity["note"] += f"; over the steps {', '.join(result.data['absorbed'])} and the model"
    if _SAYS_LITTLE in parity["note"]:
        context.warn(f"{parity['note']}: a recorded run on a real sample says more (pipelines.NAME.samples)")
    findings.append(parity)
    return findings, shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One output of the variant against the same output of the reference."""

    name: str
    difference: Difference
    tolerance: float
    """The greatest normalised error that passes, for an output of this size."""
    passed: bool
    faint: bool
    """The reference is nearly zero everywhere, so that agreeing with it says little."""

    def as_json(self) -> dict[str, Any]:
        error = self.difference.normalized_error
        facts: dict[str, Any] = {
            "name": self.name,
            # Infinity has no place in a document.
            "normalized_error": _rounded(min(error, _LARGEST)),
            "cosine": _rounded(self.difference.cosine),
            "tolerance": _rounded(self.tolerance),
            "passed": self.passed,
        }
        if math.isfinite(self.difference.snr_db):
            facts["snr_db"] = _rounded(self.difference.snr_db)
        return facts


def judge(name: str, output: Any, reference: Any, *, tolerance: float, precision: str = "float32") -> Verdict:
    """Holds an output against its reference.

    A saturating function (sigmoid, softmax) is computed to a few units in the last place of 1, not of its value. Where
    it is tiny everywhere, as a detector's answer to noise is, two right kernels differ by much of that value. Such an
    output passes with an absolute error of `_FLOOR`, if it still has the reference's form: SNR >= `_FAINT_SNR_DB`.
    """
    import numpy as np

    expected = np.asarray(reference)
    difference = compare(output, expected)
    if difference.within(tolerance) or expected.dtype.kind != "f" or not math.isfinite(difference.max_abs):
        return Verdict(
            name=name, difference=difference, tolerance=tolerance, passed=difference.within(tolerance), faint=False
        )
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    faint = scale <= _FAINT_BELOW
    floor = _HALF_FLOOR if faint and precision == "float16" else _FLOOR
    formed = scale <= floor or difference.snr_db >= _FAINT_SNR_DB
    passed = difference.max_abs <= floor and formed
    allowed = max(tolerance, floor / scale) if passed and scale else tolerance
    return Verdict(name=name, difference=difference, tolerance=min(allowed, _LARGEST), passed=passed, faint=faint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    reference: str
    samples: list[str]
    where: dict[str, str]
    tools: dict[str, str]
    tolerance: float
    precision: str

    def determinism(self, first: Arrays, second: Arrays) -> dict[str, Any]:
        verdicts = [judge(name, second[name], first[name], tolerance=self.tolerance) for name in first]
        return self._evidence("determinism", verdicts) | {"reference": self.where["runtime"]}

    def parity(
        self,
        outputs: Arrays,
        reference: Arrays,
        *,
        model: str,
        runtime: str,
        shapes: Mapping[str, list[int]],
        made: bool = True,
    ) -> dict[str, Any]:
        verdicts = []
        for name, expected in reference.items():
            verdict = judge(name, outputs[name], expected, tolerance=self.tolerance, precision=self.precision)
            if not verdict.passed:
                found = verdict.difference
                reason = found.reason or f"SNR {found.snr_db:.1f} dB, cosine {found.cosine:.4f}"
                raise ParityError(
                    f"model {model!r} on {runtime!r} is not what its source computes: output {name!r} differs, "
                    f"expected a normalised error of at most {self.tolerance:g}, got {found.normalized_error:.3g} "
                    f"({reason}), for inputs of {_shown(shapes)}",
                    hint="try another precision or other settings of the target; compare versions of the runtime",
                )
            verdicts.append(verdict)
        note = f"one run on {'made inputs' if made else 'a sample'} of {_shown(shapes)}; all outputs compared"
        faint = [verdict.name for verdict in verdicts if verdict.faint]
        if faint:
            note += f"; {_SAYS_LITTLE}: {', '.join(faint)}"
        return self._evidence("parity", verdicts) | {"note": note}

    def _evidence(self, check: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        return {
            "check": check,
            "passed": all(verdict.passed for verdict in verdicts),
            "reference": self.reference,
            "samples": self.samples,
            "tensors": [verdict.as_json() for verdict in verdicts],
            "where": self.where,
            "tools": self.tools,
        }


def _rounded(value: float) -> float:
    """Four digits: the rest says more about the processor than about the model."""
    return float(f"{value:.4g}") + 0.0  # negative zero has no place in a manifest


def _shown(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
