"""Export: from ONNX to another format; the result is read back and held against the model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import digest_bytes
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.converting import Conversion, checked_result
from sdkpack.build.steps.importing import LIBRARIES, Imported, import_file
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.parity import ParitySettings, judge
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_reference
from sdkpack.build.steps.samples import Arrays, fit_samples
from sdkpack.build.steps.sides import unproven
from sdkpack.build.store import Store, StoredResult
from sdkpack.compare import tolerance_for
from sdkpack.errors import ParityError, StepError
from sdkpack.plugin.converter import ConvertRequest
from sdkpack.types import TensorSpec

__all__ = ["export_step"]


def export_step(
    writer: Conversion,
    reader: Conversion | None,
    *,
    before: Step,
    settings: ParitySettings,
    store: Store,
    fingerprints: Fingerprints,
) -> Step:
    """The step that writes a model in another format.

    Args:
        writer: with what; its source is not looked at, the model comes from the step before.
        reader: the converter that brings the format back to ONNX, where there is one.
        before: the step whose result is the model.
        settings: how the two are compared.
        store: where the results go.
        fingerprints: of this build.
    """
    tools = [f"{fingerprints.plugin(one.row.plugin)}; {one.fingerprint}" for one in (writer, reader) if one is not None]
    facts = writer.facts() | {"parity": settings.as_json(), "max_error": writer.section.max_error}
    plan = plan_step(
        id=f"{writer.model}/export",
        kind="export",
        plugin=writer.row.info.name,
        fingerprint="; ".join([*tools, fingerprints.core(*LIBRARIES)]),
        params=facts | {"reader": None if reader is None else reader.row.info.name},
        after=(before.plan,),
    )
    cacheable = before.cacheable and all(one is None or one.fingerprint for one in (writer, reader))
    work = _Work(writer, reader, before.id, settings, store)
    return Step(plan=plan, work=work, after=(before.id,), cacheable=bool(cacheable))


@dataclass(frozen=True, slots=True)
class _Work:
    writer: Conversion
    reader: Conversion | None
    before: str
    settings: ParitySettings
    store: Store

    def __call__(self, results: Results, context: BuildContext) -> StoredResult:
        model = Imported(results[self.before])
        writer = self.writer
        context.progress(None, f"writing with {writer.row.info.name}")
        source = model_input(writer.model, model, self.store, context.aside("model")).path
        request = replace(writer.request(), source=source)
        result = checked_result(writer.converter.convert(request, context), writer.row.info.name, context)
        for note in result.notes:
            context.warn(note)
        files = {"model": result.model, **result.files}
        names = {role: path.name for role, path in files.items()}
        finding = self._finding(model, files, context)
        stored = {role: self.store.adopt(path, writer.writes) for role, path in files.items()}
        data = {
            "names": names,
            "notes": list(result.notes),
            "tools": dict(result.tools),
            "isolation": context.isolation,
            "evidence": [finding],
        }
        return StoredResult(files=stored, data=data)

    def _finding(self, model: Imported, files: Mapping[str, Path], context: BuildContext) -> dict[str, Any]:
        if self.reader is None:
            return self._nothing("no converter that is installed reads it back", context)
        back = self._read_back(self.reader, files, context)
        context.progress(None, "comparing with the model")
        try:
            return self._compared(model, back, context)
        except NotComparableError as error:
            return self._nothing(str(error), context)

    def _nothing(self, reason: str, context: BuildContext) -> dict[str, Any]:
        note = f"not compared with the model that it was made from: {reason}"
        context.warn(note)
        return unproven(note)

    def _read_back(self, reader: Conversion, files: Mapping[str, Path], context: BuildContext) -> Imported:
        context.progress(None, f"reading it back with {reader.row.info.name}")
        others = {role: path for role, path in files.items() if role != "model"}
        request = ConvertRequest(
            name=reader.model, source=files["model"], files=others, params=reader.params, opset=reader.opset
        )
        result = checked_result(reader.converter.convert(request, context), reader.row.info.name, context)
        return Imported(import_file(result.model, self.store, context, name="what was read back"))

    def _compared(self, model: Imported, back: Imported, context: BuildContext) -> dict[str, Any]:
        for what, mine, read in (("inputs", model.inputs, back.inputs), ("outputs", model.outputs, back.outputs)):
            if len(mine) != len(read):
                raise self._differs(f"it has {len(read)} {what}, expected {len(mine)}")
        # By their places: other formats have rules of their own for names.
        names = {spec.name: own.name for spec, own in zip(back.inputs, model.inputs, strict=True)}
        specs = [replace(spec, name=names[spec.name]) for spec in back.inputs]
        inputs, expected = self._inputs(model, specs, context)
        found = self._reference(back, {name: inputs[own] for name, own in names.items()}, context)
        tolerance = self.writer.section.max_error
        allowed = tolerance_for("float32") if tolerance is None else tolerance
        verdicts = []
        for own, spec in zip(model.outputs, back.outputs, strict=True):
            verdict = judge(own.name, found[spec.name], expected[own.name], tolerance=allowed)
            if not verdict.passed:
                error = verdict.difference
                raise self._differs(
                    f"output {own.name!r} has a normalised error of {error.normalized_error:.3g}"
                    f"{f' ({error.reason})' if error.reason else ''}, expected at most {allowed:g}"
                )
            verdicts.append(verdict)
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        assert self.reader is not None
        return {
            "check": "conversion",
            "passed": True,
            "reference": f"the ONNX model, by {reference_name()}",
            "samples": [digest_bytes(write_npz(inputs))],
            "tensors": [verdict.as_json() for verdict in verdicts],
            "where": {"kind": "host", "runtime": reference_name()},
            "tools": {},
            "note": f"read back by {self.reader.row.info.name}; one run on made inputs of {shapes}",
        }

    def _inputs(self, model: Imported, specs: Sequence[TensorSpec], context: BuildContext) -> tuple[Arrays, Arrays]:
        def run(arrays: Arrays) -> Arrays:
            try:
                return self._reference(model, arrays, context)
            except NotComparableError as error:
                if error.whatever:
                    raise
                raise StepError(str(error)) from error

        return fit_samples(specs, run, seed=self.settings.seed, what="the model", ranges=model.ranges)

    def _reference(self, model: Imported, inputs: Arrays, context: BuildContext) -> Arrays:
        return run_reference(
            model.result.files, inputs, store=self.store, operators=model.operators, limit_s=self.settings.limit_s,
            progress=context.progress,
        )  # fmt: skip

    def _differs(self, how: str) -> ParityError:
        return ParityError(
            f"what {self.writer.row.info.name!r} wrote is not what the model computes: {how}",
            hint="change the converter's settings; if the difference is known and accepted, allow it: max_error",
        )
