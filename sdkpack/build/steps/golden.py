"""Golden runs: recorded inputs and outputs that a target replays, of models and of whole pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import canonical_json
from sdkpack.build.npz import write_npz
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.specs import entries_of
from sdkpack.build.steps.variants import Opener
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.documents.pipeline import Pipeline
from sdkpack.documents.plan import PlanStep
from sdkpack.types import ValueType

if TYPE_CHECKING:
    from sdkpack.build.digests import FileStamp
    from sdkpack.build.sources import SourceFile
    from sdkpack.pipeline import CheckedPipeline

__all__ = ["JSON_MEDIA_TYPE", "NPZ_MEDIA_TYPE", "SampleFile", "golden_step", "pipeline_golden_step", "recorded"]

NPZ_MEDIA_TYPE: Final = "application/vnd.numpy.npz"
JSON_MEDIA_TYPE: Final = "application/json"
SAMPLE_MEDIA_TYPE: Final = "application/octet-stream"

SampleFile = tuple["SourceFile", "FileStamp"]


def recorded(result: StoredResult) -> bool:
    """Whether there is a recording: a model that draws random numbers has none, nor one that absorbed steps."""
    return bool(result.files)


def golden_step(
    model: str,
    *,
    compiled: PlanStep,
    seed: int,
    store: Store,
    opener: Opener,
    fingerprint: str,
    cacheable: bool = True,
) -> Step:
    """The step that records one run of a model through its first variant."""
    plan = plan_step(
        id=f"{model}/golden",
        kind="golden",
        plugin="sdkpack",
        fingerprint=fingerprint,
        params={"seed": seed},
        after=(compiled,),
    )

    def work(results: Results, context: BuildContext) -> StoredResult:
        return _record(results[compiled.id], model, seed, store, opener, context)

    return Step(plan=plan, work=work, after=(compiled.id,), cacheable=cacheable)


def _record(
    compiled: StoredResult, model: str, seed: int, store: Store, opener: Opener, context: BuildContext
) -> StoredResult:
    from sdkpack.build.steps.samples import given_shapes
    from sdkpack.model.sample import make_samples

    if not all(finding["passed"] for finding in compiled.data["evidence"] if finding["check"] == "determinism"):
        return StoredResult()
    if compiled.data["absorbed"]:
        return StoredResult()  # it takes what the absorbed steps take: a run of its pipeline is recorded instead
    context.progress(None, "recording a run")
    specs = given_shapes(tuple(entry.spec() for entry in entries_of(compiled.data["inputs"])), compiled.data["sample"])
    inputs = make_samples(specs, seed=seed, ranges=compiled.data.get("ranges"))
    loaded = opener.open(compiled, model=model)
    try:
        outputs = loaded(inputs)
    finally:
        loaded.close()
    return StoredResult(
        files={
            "inputs": store.put_bytes(write_npz(inputs), NPZ_MEDIA_TYPE),
            "outputs": store.put_bytes(write_npz(outputs), NPZ_MEDIA_TYPE),
        }
    )


def pipeline_golden_step(
    name: str,
    number: int,
    *,
    pipeline: Pipeline,
    checked: CheckedPipeline,
    samples: Mapping[str, SampleFile],
    compiled: Mapping[str, PlanStep],
    assets: Mapping[str, str],
    fingerprint: str,
    store: Store,
    opener: Opener,
    cacheable: bool = True,
) -> Step:
    """The step that records one run of a pipeline.

    Args:
        name: the pipeline's.
        number: which of its samples.
        pipeline: as it goes into the manifest.
        checked: the same, ready to run.
        samples: a file for each input.
        compiled: the compile step of each model that it runs.
        assets: digests of its assets by their names in the bundle.
        fingerprint: of sdkpack and of the plugins whose operators it runs.
        store: where results go.
        opener: opens the models.
        cacheable: false where a step before is not.
    """
    plan = plan_step(
        id=f"{name}/golden/{number}",
        kind="pipeline-golden",
        plugin="sdkpack",
        fingerprint=fingerprint,
        params={"pipeline": _dump(pipeline),
                "assets": dict(assets), "models": sorted(compiled), "inputs": sorted(samples)},
        files=tuple(samples[key][1].digest for key in sorted(samples)),
        after=tuple(compiled[model] for model in sorted(compiled)),
    )  # fmt: skip

    def work(results: Results, context: BuildContext) -> StoredResult:
        kinds = {key: ValueType.parse(text) for key, text in pipeline.inputs.items()}
        files, inputs = _inputs(samples, kinds, store)
        context.progress(None, "running the pipeline")
        outputs = _run(checked, inputs, {m: results[step.id] for m, step in compiled.items()}, opener, context)
        return StoredResult(files={**files, "outputs": store.put_bytes(outputs, JSON_MEDIA_TYPE)})

    return Step(plan=plan, work=work, after=tuple(step.id for step in compiled.values()), cacheable=cacheable)


def _inputs(
    samples: Mapping[str, SampleFile], kinds: Mapping[str, ValueType], store: Store
) -> tuple[dict[str, StoredFile], dict[str, Any]]:
    from sdkpack.session.values import input_from_file

    files, values = {}, {}
    for key, (source, stamp) in samples.items():
        content = source.path.read_bytes()
        stamp.check_unchanged(source.path)
        files[f"inputs/{key}"] = store.put_bytes(content, SAMPLE_MEDIA_TYPE)
        values[key] = input_from_file(kinds[key], content, where=source.reference)
    return files, values


def _run(
    checked: CheckedPipeline,
    inputs: Mapping[str, Any],
    compiled: Mapping[str, StoredResult],
    opener: Opener,
    context: BuildContext,
) -> bytes:
    from sdkpack.session.values import json_value

    with ExitStack() as stack:
        models: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {}
        for name, result in compiled.items():
            loaded = opener.open(result, model=name)
            stack.callback(loaded.close)
            models[name] = loaded

        def trace(step: str, _: str, __: Any) -> None:
            context.progress(None, f"running the pipeline: {step}")

        absorbed = frozenset(step for result in compiled.values() for step in result.data["absorbed"])
        outputs = checked.run(inputs, models=models, trace=trace, absorbed=absorbed)
    return canonical_json(json_value(outputs))


def _dump(pipeline: Pipeline) -> dict[str, Any]:
    return pipeline.model_dump(mode="json", exclude_none=True)
