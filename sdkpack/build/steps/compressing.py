"""Compress: a smaller model, what it costs measured, and refused where that is more than the recipe allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import FileStamp, digest_bytes
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.importing import LIBRARIES, Imported, import_file
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, judge
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples, given_shapes
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.documents.recipe import CompressSection
from sdkpack.errors import GateError, PluginBrokenError, PluginError, SdkpackError, StepError, UsageError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.compressor import Compressor, CompressRequest, CompressResult
from sdkpack.plugin.info import CompressorInfo
from sdkpack.types import TensorSpec

__all__ = ["NONE", "compress_step"]

NONE: Final = "none"
"""The scheme that switches a default off."""

SampleFiles = Sequence[tuple[SourceFile, FileStamp]]


def compress_step(
    id_: str,
    section: CompressSection,
    *,
    samples: SampleFiles,
    sample: Mapping[str, Sequence[int]],
    imported: Step,
    registry: Registry,
    tools: ToolHost,
    store: Store,
    fingerprints: Fingerprints,
    parity: ParitySettings,
) -> Step:
    """The step that compresses a model and holds what it lost against the recipe's budget.

    Args:
        id_: of the step; its first word is the model.
        section: the recipe's.
        samples: real inputs.
        sample: shapes of the inputs, where the author states them.
        imported: the step whose result is the model.
        registry: the plugins in use.
        tools: where toolchains run.
        store: where the model is.
        fingerprints: of this build.
        parity: how what it costs is measured.

    Raises:
        PluginError: the compressor or its toolchain is missing.
        UsageError: it cannot make the precision.
        DocumentError: it refuses its settings.
    """
    model = id_.partition("/")[0]
    row = registry.compressor(section.scheme)
    precision = section.precision or row.info.precisions[0]
    if precision not in row.info.precisions:
        raise UsageError(
            f"compressor {row.info.name!r} cannot make {precision!r}, expected {' or '.join(row.info.precisions)}"
        )
    schema = ParamSchema(row.info)
    params = schema.instance(section.params, path=f"models.{model}.compress.with")
    compressor: Compressor = tools.open(row, row.info.half)
    probe = compressor.probe()
    if not probe.ok:
        raise PluginError(
            f"compressor {row.info.name!r} cannot work here: {probe.missing or 'no reason given'}", hint=probe.mend
        )
    budget = section.max_error if section.max_error is not None else tolerance_for(precision)
    plan = plan_step(
        id=id_,
        kind="compress",
        plugin=row.info.name,
        fingerprint=f"{fingerprints.plugin(row.plugin)}; {probe.fingerprint}; {fingerprints.core(*LIBRARIES)}",
        params={
            "with": schema.dump(params),
            "precision": precision,
            "max_error": budget,
            "sample": {name: list(shape) for name, shape in sample.items()},
            "parity": parity.as_json(),
        },
        files=[stamp.digest for _, stamp in samples],
        after=(imported.plan,),
        deterministic=row.info.deterministic,
    )
    work = _Work(model=model, row=row, compressor=compressor, precision=precision, params=params, budget=budget,
                 samples=samples, sample=sample, imported=imported.id, store=store, parity=parity)  # fmt: skip
    return Step(plan=plan, work=work, after=(imported.id,), cacheable=bool(probe.fingerprint) and imported.cacheable)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    model: str
    row: Registered[CompressorInfo]
    compressor: Compressor
    precision: str
    params: Any
    budget: float
    samples: SampleFiles
    sample: Mapping[str, Sequence[int]]
    imported: str
    store: Store
    parity: ParitySettings

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        before = Imported(results[self.imported])
        request = CompressRequest(
            model=model_input(self.model, before, self.store, context.aside("model")),
            precision=self.precision,
            params=self.params,
            samples=tuple(file.path for file, _ in self.samples),
            budget=self.budget,
        )
        context.progress(None, f"compressing with {self.row.info.name}")
        result = self._checked(self.compressor.compress(request, context), context)
        after = import_file(result.model, self.store, context, name=f"the result of {self.row.info.name!r}")
        self._same_signature(before, Imported(after))
        context.progress(None, "measuring what it costs")
        loss = self._loss(before, after, result, context)
        for note in result.notes:
            context.warn(note)
        data = {
            **after.data,
            # Its inputs and outputs are the model's own; a tool may have renamed an open dimension.
            "inputs": before.result.data["inputs"],
            "outputs": before.result.data["outputs"],
            "metadata": before.result.data["metadata"],
            "ranges": before.result.data.get("ranges", {}),
            "precision": result.precision,
            "evidence": [*before.result.data.get("evidence", ()), loss],
            "isolation": context.isolation,
        }
        return StoredResult(files=after.files, data=data)

    def _checked(self, result: object, context: BuildContext) -> CompressResult:
        where = f"compressor {self.row.info.name!r}"
        if not isinstance(result, CompressResult):
            raise PluginBrokenError(f"{where} returned a {type(result).__name__}, expected a CompressResult")
        if not result.model.resolve().is_relative_to(context.work.resolve()) or not result.model.is_file():
            raise PluginBrokenError(f"{where} returned no file of its work folder: {result.model.name!r}")
        if result.precision not in self.row.info.precisions:
            raise PluginBrokenError(f"{where} says that it made {result.precision!r}, which it does not declare")
        return result

    def _same_signature(self, before: Imported, after: Imported) -> None:
        for what, old, new in (("inputs", before.inputs, after.inputs), ("outputs", before.outputs, after.outputs)):
            if [(spec.name, spec.dtype, _fixed(spec)) for spec in old] != [
                (spec.name, spec.dtype, _fixed(spec)) for spec in new
            ]:
                raise PluginBrokenError(
                    f"compressor {self.row.info.name!r} changed the {what} of {self.model!r}: "
                    f"got {', '.join(map(str, new))}, expected {', '.join(map(str, old))}"
                )

    def _loss(
        self, before: Imported, after: StoredResult, result: CompressResult, context: BuildContext
    ) -> dict[str, Any]:
        """Both models on the same inputs, by the same reference, each output compared."""
        inputs, expected = self._inputs(before, context)
        tensors: dict[str, dict[str, Any]] = {}
        worst = None
        for arrays, outputs in zip(inputs, expected, strict=True):
            try:
                found = self._reference(after, arrays, context)
            except SdkpackError as error:
                raise self._unmeasured(error) from error
            for name, reference in outputs.items():
                verdict = judge(name, found[name], reference, tolerance=self.budget, precision=result.precision)
                lost = verdict.difference.normalized_error
                if name not in tensors or lost > tensors[name]["normalized_error"]:
                    tensors[name] = verdict.as_json()
                if not verdict.passed and (worst is None or lost > worst.difference.normalized_error):
                    worst = verdict
        if worst is not None:
            difference = worst.difference
            raise GateError(
                f"compressing {self.model!r} to {result.precision} loses too much: output {worst.name!r} has a "
                f"normalised error of {difference.normalized_error:.3g} (SNR {difference.snr_db:.1f} dB), "
                f"allowed is {self.budget:g}",
                hint=f"allow more (models.{self.model}.compress.max_error), give real samples, or leave this model as "
                "it is (scheme = 'none')",
            )
        made = "made inputs" if not self.samples else f"{len(self.samples)} samples"
        return {
            "check": "loss",
            "passed": True,
            "reference": f"the model before, by {reference_name()}",
            "samples": [digest_bytes(write_npz(arrays)) for arrays in inputs],
            "tensors": list(tensors.values()),
            "where": {"kind": "host", "runtime": reference_name()},
            "tools": dict(result.tools),
            "note": f"{self.row.info.name} to {result.precision} on {made}; weights from "
            f"{before.result.files['weights'].size_bytes} to {after.files['weights'].size_bytes} bytes",
        }

    def _inputs(self, before: Imported, context: BuildContext) -> tuple[list[Arrays], list[Arrays]]:
        """Inputs, and what the model before gives for them."""

        def run(arrays: Arrays) -> Arrays:
            return self._reference(before.result, arrays, context)

        try:
            if self.samples:
                arrays = [_read_samples(file, stamp, before.inputs) for file, stamp in self.samples]
                return arrays, [run(one) for one in arrays]
            specs = given_shapes(before.inputs, self.sample)
            inputs, outputs = fit_samples(
                specs, run, seed=self.parity.seed, what=f"model {self.model!r}", ranges=before.ranges
            )
            return [inputs], [outputs]
        except StepError as error:
            raise self._unmeasured(error) from error

    def _reference(self, model: StoredResult, inputs: Arrays, context: BuildContext) -> Arrays:
        try:
            return run_reference(
                model.files, inputs, store=self.store, operators=Imported(model).operators,
                limit_s=self.parity.limit_s, progress=context.progress,
            )  # fmt: skip
        except NotComparableError as error:
            raise StepError(str(error)) from error

    def _unmeasured(self, error: SdkpackError) -> GateError:
        # A budget that nothing was held against would be a check that cannot fail.
        return GateError(
            f"what compressing {self.model!r} costs cannot be measured: {error.message}",
            hint=error.hint or f"leave this model as it is: models.{self.model}.compress.scheme = 'none'",
        )


def _fixed(spec: TensorSpec) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) else None for dim in spec.shape)


def _read_samples(file: SourceFile, stamp: FileStamp, specs: Sequence[TensorSpec]) -> Arrays:
    """
    Raises:
        StepError: the file is no npz of this model's inputs.
    """
    from sdkpack.session.npz import read_npz

    content = file.path.read_bytes()
    stamp.check_unchanged(file.path)
    arrays = read_npz(content, where=file.reference)
    wanted = {spec.name for spec in specs}
    if set(arrays) != wanted:
        raise StepError(
            f"sample {file.reference!r} holds {', '.join(sorted(arrays)) or 'nothing'}, "
            f"expected {', '.join(sorted(wanted))}"
        )
    return arrays
