"""Pack: recipe in, bundle out."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from sdkpack.build.digests import PREFIX
from sdkpack.build.findings import Findings
from sdkpack.build.load import LoadedRecipe, load_recipe
from sdkpack.build.manifest import Packable, make_manifest
from sdkpack.build.pins import check_locked, pinned, pins_of, stored_results
from sdkpack.build.progress import Reporter
from sdkpack.build.resolve import Resolution, resolve
from sdkpack.build.runner import StepRun, StepRunner, step_runner
from sdkpack.build.sealing import seal_of, signers_of
from sdkpack.build.steps.parity import ParitySettings
from sdkpack.build.store import Store
from sdkpack.bundle.files import FileSystem, atomic_file
from sdkpack.documents.manifest import Manifest
from sdkpack.documents.plan import Plan
from sdkpack.documents.report import Report, StepReport
from sdkpack.errors import FileError, InterruptedRunError, OutputError
from sdkpack.host.registry import Registry

if TYPE_CHECKING:
    from sdkpack.bundle import BundleContent, BundleSummary, Seal
    from sdkpack.crypto.signature import Signer

__all__ = ["Built", "PackResult", "build", "check_written", "pack", "plan"]

_RECHECK_BELOW_BYTES: Final = 256 << 20
"""A bundle up to this size is hashed again after it is written (0.13 s). Of a larger one structure, signatures and
manifest are checked; its blobs were hashed on their way to the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A plan carried out: all that a bundle, or a run without one, is made from."""

    resolution: Resolution
    runs: Mapping[str, StepRun]
    packable: Packable


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult:
    """What was packed."""

    path: Path | None
    """None where it went to a stream."""
    report_path: Path | None
    identity: str
    size_bytes: int
    plan: Plan
    manifest: Manifest
    report: Report
    cached: int
    """Steps whose results the store had."""
    ran: int


def plan(
    recipe: Path,
    *,
    registry: Registry,
    store: Store,
    package_paths: Sequence[Path] = (),
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    cancel: threading.Event | None = None,
) -> Plan:
    """Makes the plan of the recipe at `recipe`; only its import steps run.

    Raises:
        SdkpackError: anything is wrong with the recipe, all of it at once.
    """
    with step_runner(store, reporter=reporter, executor=executor, cancel=cancel) as runner:
        made = resolve(load_recipe(recipe), registry=registry, runner=runner, package_paths=package_paths).plan
        return pinned(made, stored_results(made, store))


def build(
    loaded: LoadedRecipe,
    *,
    registry: Registry,
    runner: StepRunner,
    package_paths: Sequence[Path] = (),
    parity: ParitySettings | None = None,
    locked: Plan | None = None,
) -> Built:
    """Carries a recipe out up to the point where a bundle is written.

    Args:
        loaded: the recipe.
        registry: the plugins in use.
        runner: runs the steps.
        package_paths: folders of packages for `package://`.
        parity: how variants are compared with their sources.
        locked: the plan that it must be; `runner` has its pins.

    Raises:
        SdkpackError: the recipe is wrong, or a step failed.
        UsageError: the recipe's plan is not `locked`.
        InterruptedRunError: the user wants to stop.
    """
    resolution = resolve(loaded, registry=registry, runner=runner, package_paths=package_paths, parity=parity)
    check_locked(resolution.plan, locked)
    return _carry_out(resolution, registry, runner)


def pack(
    recipe: Path,
    *,
    registry: Registry,
    store: Store,
    out: Path | BinaryIO | None = None,
    package_paths: Sequence[Path] = (),
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    cancel: threading.Event | None = None,
    overwrite: bool = False,
    sealed: bool = True,
    parity: ParitySettings | None = None,
    files: FileSystem | None = None,
    locked: Plan | None = None,
    twice: bool = False,
) -> PackResult:
    """Packs the recipe at `recipe`.

    Args:
        recipe: the recipe's file, or its folder.
        registry: the plugins in use.
        store: where steps keep their results.
        out: a file, a folder, or a binary stream; by default NAME-VERSION.sdkpack in the current folder.
        package_paths: folders of packages for `package://`.
        reporter: gets told how it goes.
        executor: runs the steps, in this process; threads by default.
        cancel: set it to stop.
        overwrite: replaces an existing bundle.
        sealed: encrypts and signs as the recipe says; else the bundle is plain and unsigned, for a try-out.
        parity: how variants are compared with their sources.
        files: the file system that the bundle is written to.
        locked: a plan that is to be carried out again: it must be this recipe's still, and a step that is not
            deterministic must give what the plan is pinned to.
        twice: runs what plugins do twice, and refuses one that says that it is deterministic and is not.

    Raises:
        SdkpackError: as its code says. The output is then as it was before.
        InterruptedRunError: the user wants to stop.
    """
    begin = time.perf_counter()
    loaded = load_recipe(recipe)
    target = _target(out, loaded)
    if isinstance(target, Path) and target.exists() and not overwrite:
        # Told before the work, not after it.
        raise OutputError(f"'{target}' exists already", hint="choose another name, or allow overwriting (--force)")
    seal, signers = _keys(loaded, registry) if sealed else (None, ())
    cancel = cancel or threading.Event()
    with step_runner(
        store, reporter=reporter, executor=executor, cancel=cancel, pins=pins_of(locked), twice=twice
    ) as runner:
        built = build(
            loaded, registry=registry, runner=runner, package_paths=package_paths, parity=parity, locked=locked
        )
        content = _content(built.packable, store)
        summary = _write(content, target, seal, signers, runner.reporter, cancel, overwrite, files)
    if isinstance(target, Path):
        check_written(target, summary.identity, signers, built.packable.manifest)
    report = _report(built, summary, time.perf_counter() - begin)
    report_path = _write_report(report, target, overwrite, files)
    return PackResult(
        path=target if isinstance(target, Path) else None, report_path=report_path, identity=summary.identity,
        size_bytes=summary.size_bytes, plan=_pinned_plan(built), manifest=built.packable.manifest, report=report,
        cached=sum(run.cached for run in built.runs.values()), ran=sum(not run.cached for run in built.runs.values()),
    )  # fmt: skip


def check_written(path: Path, identity: str, signers: Sequence[Signer], manifest: Manifest) -> None:
    """Opens a written bundle as its reader will, and holds it against what was meant.

    An encrypted bundle is checked by what everyone can see of it: the packer has no key that opens it.

    Raises:
        BundleError: it is not what was written.
        OutputError: another bundle stands there.
    """
    from sdkpack.bundle import TrustedKey, TrustPolicy, open_bundle
    from sdkpack.crypto.signature import VerifyingKey
    from sdkpack.session.opening import read_manifest

    keys = {VerifyingKey(signer.alg, signer.public_key) for signer in signers}
    policy = TrustPolicy(
        keys=tuple(TrustedKey(key=key) for key in keys), threshold=max(len(keys), 1), allow_unsigned=not keys
    )
    with open_bundle(path) as bundle:
        if bundle.info.identity != identity:
            raise OutputError(f"'{path}' is not the bundle that was just written: somebody replaced it")
        whole = bundle.info.size_bytes < _RECHECK_BELOW_BYTES
        if not bundle.info.encrypted:
            verified = bundle.verify(policy=policy, check_blobs=whole, validate_manifest=read_manifest)
            if verified.document != manifest:
                raise OutputError(f"the manifest in '{path}' reads otherwise than it was written")
        elif whole:
            bundle.verify_public(policy=policy)


def _carry_out(resolution: Resolution, registry: Registry, runner: StepRunner) -> Built:
    before = {run.id: run.result for run in resolution.imports.values()}
    runs = dict(resolution.done)
    runs |= runner.run(resolution.steps, before=before).done
    packable = make_manifest(resolution, runs, registry, runner.store)
    return Built(resolution=resolution, runs=runs, packable=packable)


def _pinned_plan(built: Built) -> Plan:
    return pinned(built.resolution.plan, {run.id: run.result for run in built.runs.values()})


def _keys(loaded: LoadedRecipe, registry: Registry) -> tuple[Seal | None, tuple[Signer, ...]]:
    findings = Findings(loaded.name)
    seal = seal_of(loaded.recipe.encrypt, folder=loaded.folder, registry=registry, findings=findings)
    signers = signers_of(loaded.recipe.sign, folder=loaded.folder, registry=registry, findings=findings)
    findings.raise_any()
    return seal, signers


def _target(out: Path | BinaryIO | None, loaded: LoadedRecipe) -> Path | BinaryIO:
    name = f"{loaded.recipe.bundle.name}-{loaded.recipe.bundle.version}.sdkpack"
    if out is None:
        return Path(name)
    if isinstance(out, Path) and out.is_dir():
        return out / name
    return out


def _content(packable: Packable, store: Store) -> BundleContent:
    from sdkpack.bundle import BlobSource, BundleContent, FileItem

    items = tuple(
        FileItem(
            path=path,
            media_type=file.media_type,
            source=BlobSource.from_path(
                store.path(file.digest), sha256=bytes.fromhex(file.digest.removeprefix(PREFIX))
            ),
        )
        for path, file in sorted(packable.files.items())
    )
    return BundleContent(manifest=packable.manifest.to_object(), files=items)


def _write(
    content: BundleContent,
    target: Path | BinaryIO,
    seal: Seal | None,
    signers: Sequence[Signer],
    reporter: Reporter,
    cancel: threading.Event,
    overwrite: bool,
    files: FileSystem | None,
) -> BundleSummary:
    from sdkpack.bundle import write_bundle

    try:
        return write_bundle(
            content, target, seal=seal, signers=signers, overwrite=overwrite, progress=reporter.wrote,
            cancelled=cancel.is_set, files=files,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped by request") from None
    except FileError as error:
        # Its sources are the store's objects, which nobody has a reason to write to.
        raise FileError(error.message, hint="the store is damaged: sdkpack store clean, then pack again") from error


def _report(built: Built, summary: BundleSummary, seconds: float) -> Report:
    bundle = built.resolution.plan.bundle
    pins = {step.id: step.result for step in _pinned_plan(built).steps}
    return Report(
        report=1,
        bundle=f"{bundle.name}-{bundle.version}",
        identity=summary.identity,
        size_bytes=summary.size_bytes,
        seconds=round(seconds, 3),
        steps=tuple(_step_report(run, pins.get(run.id)) for run in built.runs.values()),
        machine={
            "system": platform.system(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "processors": str(os.cpu_count() or 0),
        },
    )


def _step_report(run: StepRun, result: str | None) -> StepReport:
    isolation = run.result.data.get("isolation", {})
    return StepReport(
        id=run.id,
        cached=run.cached,
        seconds=round(run.seconds, 3),
        note=_note(run),
        isolation=dict(isolation),
        result=result,
    )


def _note(run: StepRun) -> str | None:
    notes = [finding["note"] for finding in run.result.data.get("evidence", ()) if finding.get("note")]
    notes += run.result.data.get("notes", ())
    return "; ".join(notes) or None


def _write_report(report: Report, target: Path | BinaryIO, overwrite: bool, files: FileSystem | None) -> Path | None:
    if not isinstance(target, Path):
        return None
    path = target.parent / f"{target.name.removesuffix('.sdkpack')}.report.json"
    # The bundle is whole by now; a report of an earlier run says nothing any more.
    with atomic_file(path, overwrite=True, files=files) as out:
        out.write(report.to_json().encode())
    return path
