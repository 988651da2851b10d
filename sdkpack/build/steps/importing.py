"""Import: from the author's model file to graph, weights and table in the store, checked, with the model's facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.context import BuildContext
from sdkpack.build.digests import FileStamp, Stamp, digest_json
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.runner import Results, Step
from sdkpack.build.sources import SourceFile
from sdkpack.build.steps.declaring import Declared
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.steps.specs import entries, specs_of
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.plan import PlanInput
from sdkpack.errors import FileError
from sdkpack.model.table import GRAPH_MEDIA_TYPE, TENSORS_MEDIA_TYPE, WEIGHTS_MEDIA_TYPE
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from sdkpack.model.facts import ModelFacts
    from sdkpack.model.load import LoadedModel

__all__ = ["FORMAT", "LIBRARIES", "Imported", "ModelFiles", "import_file", "import_step", "stamp_model"]

FORMAT: Final = "onnx"
LIBRARIES: Final = ("onnx", "numpy", "protobuf")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """An author's model: the file and the external data that it names."""

    source: SourceFile
    stamp: Stamp
    external: Mapping[str, FileStamp]
    """By location, as the model writes it. A file that cannot be read is absent here, and refused by the step."""
    missing: tuple[str, ...] = ()
    others: tuple[tuple[str, Stamp], ...] = ()
    """Further files of a model of another format, by reference."""
    format: str = FORMAT

    def plan_inputs(self) -> dict[str, PlanInput]:
        reference = self.source.reference
        inputs = {reference: _plan_input(reference, self.stamp)}
        stamp: Stamp
        for location, stamp in self.external.items():
            inputs[f"{reference}#{location}"] = _plan_input(f"{reference}#{location}", stamp)
        for other, stamp in self.others:
            inputs[other] = _plan_input(other, stamp)
        return inputs

    def digests(self) -> tuple[str, ...]:
        return (self.stamp.digest, *(stamp.digest for _, stamp in sorted(self.external.items())))

    def check_unchanged(self) -> None:
        self.stamp.check_unchanged(self.source.path)
        for location, stamp in self.external.items():
            stamp.check_unchanged(self.source.path.parent / location)


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import step, read."""

    result: StoredResult

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return specs_of(self.result.data["inputs"])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return specs_of(self.result.data["outputs"])

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest number of made inputs, where the author says so."""
        return {name: (least, most) for name, (least, most) in self.result.data.get("ranges", {}).items()}

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.result.data["metadata"])

    @property
    def operators(self) -> tuple[tuple[str, str], ...]:
        """Domain and name of each operator that the model uses."""
        return tuple((domain, name) for domain, name, _ in self.result.data["operators"])

    @property
    def opsets(self) -> tuple[tuple[str, int], ...]:
        return tuple((domain, version) for domain, version in self.result.data["opsets"])


def stamp_model(source: SourceFile, store: Store, fingerprints: Fingerprints) -> ModelFiles:
    """Hashes a model's files. Which external files it names is read from it once, then known by its digest.

    Raises:
        FileError: the model file cannot be read.
        ModelError: it is no model.
    """
    stamp = store.stamps.stamp(source.path)
    key = digest_json({"kind": "locations", "fingerprint": fingerprints.core(*LIBRARIES), "file": stamp.digest})
    known = store.get(key)
    if known is None:
        locations = _locations(source.path)
        stamp.check_unchanged(source.path)
        known = StoredResult(data={"locations": list(locations)})
        store.put(key, known)
    external: dict[str, FileStamp] = {}
    missing: list[str] = []
    for location in known.data["locations"]:
        try:
            # Only a digest of it is kept. Whether a model may name this place, the step's resolver decides.
            external[location] = store.stamps.stamp(source.path.parent / location)
        except (FileError, ValueError):
            missing.append(location)
    return ModelFiles(source=source, stamp=stamp, external=external, missing=tuple(missing))


def import_step(
    name: str, files: ModelFiles, store: Store, fingerprints: Fingerprints, declared: Declared | None = None
) -> Step:
    """The step that imports one model."""
    said = declared or Declared()
    plan = plan_step(
        id=f"{name}/import",
        kind="import",
        plugin="sdkpack",
        fingerprint=fingerprints.core(*LIBRARIES),
        params={"locations": sorted(files.external)} | said.as_json(),
        files=files.digests(),
    )

    def work(_: Results, context: BuildContext) -> StoredResult:
        result = import_file(files.source.path, store, context, name=files.source.reference)
        files.check_unchanged()
        return StoredResult(files=result.files, data=said.applied(result.data))

    return Step(plan=plan, work=work, cacheable=not files.missing)


def import_file(path: Path, store: Store, context: BuildContext, *, name: str) -> StoredResult:
    """Graph, weights, table and facts of the ONNX model at `path`, checked.

    Raises:
        ModelError: it is no valid ONNX model.
    """
    from sdkpack.model.check import check_model, check_split
    from sdkpack.model.external import ExternalFolder
    from sdkpack.model.facts import describe
    from sdkpack.model.load import load_model
    from sdkpack.model.split import split_model
    from sdkpack.model.table import write_table

    context.progress(None, "reading the model")
    model = load_model(path)
    with ExternalFolder(model.folder) as folder:
        check_model(model, folder)
        facts = describe(model)
        split = split_model(model, folder)
        context.progress(None, "checking the graph")
        check_split(split, name=name)
        weights = context.aside("split") / "weights"
        _write_weights(weights, split.weights, context)
        stored = {
            "graph": store.put_bytes(split.graph, GRAPH_MEDIA_TYPE),
            "tensors": store.put_bytes(write_table(split.tensors), TENSORS_MEDIA_TYPE),
            "weights": store.adopt(weights, WEIGHTS_MEDIA_TYPE),
        }
    return StoredResult(files=stored, data=_facts(facts, model))


def _write_weights(path: Path, weights: Any, context: BuildContext) -> None:
    done = 0
    with path.open("wb") as out:
        for block in weights.blocks():
            out.write(block)
            done += len(block)
            context.progress(done / max(weights.size_bytes, 1), "splitting the weights")


def _facts(facts: ModelFacts, model: LoadedModel) -> dict[str, Any]:
    return {
        "inputs": entries(facts.inputs),
        "outputs": entries(facts.outputs),
        "metadata": dict(facts.metadata),
        "operators": [[use.domain, use.name, use.count] for use in facts.operators],
        "opsets": [[domain, version] for domain, version in facts.opsets],
        "format": FORMAT,
        "ir_version": facts.ir_version,
        "producer": facts.producer,
        "parameter_count": facts.parameter_count,
        "size_bytes": model.size_bytes,
    }


def _locations(path: Path) -> tuple[str, ...]:
    from sdkpack.model.external import external_locations
    from sdkpack.model.load import load_model

    return external_locations(load_model(path).proto)


def _plan_input(reference: str, stamp: Stamp) -> PlanInput:
    return PlanInput(reference=reference, digest=stamp.digest, size_bytes=stamp.size_bytes)
