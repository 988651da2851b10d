"""Between a compile step's result in the store and a `Variant`: as the manifest has it, and opened for a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.build.digests import canonical_json
from sdkpack.build.steps.specs import entries_of
from sdkpack.build.store import Store, StoredFile, StoredResult
from sdkpack.documents.evidence import Evidence
from sdkpack.documents.manifest import CoverageEntry, Needs, Variant, VariantPart
from sdkpack.host.registry import Registry
from sdkpack.plugin.runtime import Blob
from sdkpack.types import TensorSpec

if TYPE_CHECKING:
    from sdkpack.session.models import LoadedModel

__all__ = ["Opener", "Signature", "bundle_files", "variant_of"]


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
    portable: bool = False,
    platforms: Iterable[str] = (),
) -> Variant:
    """The manifest's words for what a compile step made.

    Args:
        result: of the compile step.
        target: the recipe's name.
        folder: where the files stand in the bundle.
        step: the id of the step, for its evidence.
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
    model = step.partition("/")[0]
    steps = {"loss": f"{model}/compress", "conversion": f"{model}/check"}
    evidence = tuple(
        Evidence.model_validate_json(canonical_json({**finding, "step": steps.get(finding["check"], step)}))
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
