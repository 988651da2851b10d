"""Between a compile step's result in the store and a `Variant`: as the manifest has it, and opened for a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.build.digests import canonical_json
from sdkpack.build.steps.specs import entries_of
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.manifest import CoverageEntry, Needs, TensorEntry, Variant, VariantPart
from sdkpack.host.registry import Registry
from sdkpack.plugin.runtime import Blob, CompiledModel
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from sdkpack.session.models import LoadedModel
    from sdkpack.session.models import Signature as ModelSignature

__all__ = ["Opener", "Signature", "bundle_files", "open_compiled", "variant_of"]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def bundle_files(result: StoredResult, folder: str) -> dict[str, StoredFile]:
    """The files of a compiled variant by the name that they get in the bundle, below `folder`."""
    return {f"{folder}/{name}": file for name, file in result.files.items()}


def variant_of(
    result: StoredResult,
    *,
    target: str,
    folder: str,
    step: str,
    earlier: Mapping[str, str] | None = None,
    portable: bool = False,
    platforms: Iterable[str] = (),
) -> Variant:
    """The manifest's words for what a compile step made.

    Args:
        result: of the compile step.
        target: the recipe's name.
        folder: where the files stand in the bundle.
        step: the id of the step, for its evidence.
        earlier: ids of the steps before it that left evidence, by check.
        portable: it is a plain ONNX model.
        platforms: where the runtime works.
    """
    data: Mapping[str, Any] = result.data
    parts = tuple(
        VariantPart(
            runtime=part["runtime"],
            files={role: f"{folder}/{name}" for role, name in part["files"].items()},
            entry=part["entry"] or None,
            inputs=entries_of(part["inputs"]),
            outputs=entries_of(part["outputs"]),
            options=part["options"],
        )
        for part in data["parts"]
    )
    needs = Needs(platforms=tuple(platforms), runtime=data["needs"], token=data["token"] or None)
    evidence = tuple(
        Evidence.model_validate_json(canonical_json({**finding, "step": (earlier or {}).get(finding["check"], step)}))
        for finding in data.get("evidence", ())
    )
    return Variant(
        target=target,
        precision=data["precision"],
        portable=portable,
        parts=parts,
        needs=needs,
        absorbed=tuple(data["absorbed"]),
        shapes=data["shapes"],
        coverage=CoverageEntry.model_validate_json(canonical_json(data["coverage"])) if data["coverage"] else None,
        evidence=evidence,
    )


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens variants whose files are in the store, the same way as a session opens those of a bundle."""

    store: Store
    registry: Registry

    def open(self, result: StoredResult, *, model: str) -> LoadedModel:
        """Makes a compiled variant ready to run; close it after use.

        Raises:
            PluginError: its runtime cannot run here.
            RunError: the runtime refused it.
        """
        from sdkpack.session.blobs import FileBlob
        from sdkpack.session.models import Resources, open_variant

        variant = variant_of(result, target="build", folder="build", step="build")
        files = bundle_files(result, "build")

        def blob(path: str) -> Blob:
            return FileBlob(self.store.path(files[path].digest), media_type=files[path].media_type)

        signature = Signature(
            tuple(entry.spec() for entry in entries_of(result.data["inputs"])),
            tuple(entry.spec() for entry in entries_of(result.data["outputs"])),
        )
        # One thread: sums in one order, so that a recorded run is the same each time.
        return open_variant(signature, variant, blob, self.registry, name=model, resources=Resources(threads=1))

    def where(self, result: StoredResult, runtime: str) -> dict[str, str]:
        """On what a variant runs here, as JSON of `Where`: the device that its first part names, or the first one.

        Raises:
            PluginError: its runtime cannot run here.
        """
        from sdkpack.session.choice import load_runner

        part = result.data["parts"][0]
        devices = load_runner(self.registry.runtime(part["runtime"])).devices()
        chosen = [device for device in devices if device.name == part["options"].get("device")] or list(devices)
        facts = {"kind": "host", "runtime": runtime}
        if chosen and chosen[0].kind != "host":
            known = {name: chosen[0].facts[name] for name in ("driver", "firmware") if name in chosen[0].facts}
            facts |= {"kind": chosen[0].kind, "device": chosen[0].name, **known}
        return facts


def open_compiled(
    compiled: CompiledModel, signature: ModelSignature, registry: Registry, *, files: Mapping[Path, Path] | None = None
) -> LoadedModel:
    """What a compiler returned, ready to run; close it after use.

    Args:
        compiled: one model.
        signature: the source's inputs and outputs.
        registry: where the runtimes of the parts come from.
        files: other files in the place of some.

    Raises:
        RunError: a runner refused a part.
    """
    from sdkpack.session.blobs import FileBlob
    from sdkpack.session.models import Resources, open_variant

    paths = {f"{n}/{file.role}": file for n, part in enumerate(compiled.parts) for file in part.files}
    parts = tuple(
        VariantPart(
            runtime=part.runtime,
            files={file.role: f"{number}/{file.role}" for file in part.files},
            entry=part.entry or None,
            inputs=tuple(TensorEntry.of(spec) for spec in part.inputs),
            outputs=tuple(TensorEntry.of(spec) for spec in part.outputs),
            options=dict(part.options),
        )
        for number, part in enumerate(compiled.parts)
    )
    variant = Variant(
        target="build", parts=parts, needs=Needs(runtime=dict(compiled.needs)), absorbed=compiled.absorbed
    )

    def blob(name: str) -> Blob:
        path = paths[name].path
        return FileBlob((files or {}).get(path, path), media_type=paths[name].media_type)

    return open_variant(signature, variant, blob, registry, name=compiled.name, resources=Resources(threads=1))
