"""Release: a packed bundle, through an exporter, to what a customer installs."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.context import step_context
from sdkpack.build.fingerprint import needed_distributions
from sdkpack.build.progress import NullReporter, Reporter
from sdkpack.build.store import Store
from sdkpack.bundle.files import FileSystem, clean_leftovers, output_error
from sdkpack.documents.manifest import Manifest
from sdkpack.errors import OutputError, PluginBrokenError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registered, Registry, load_class
from sdkpack.plugin.exporter import Exporter, ExportRequest, ExportResult

if TYPE_CHECKING:
    from sdkpack.bundle import VerifiedBundle
    from sdkpack.crypto.recipients import Identity
    from sdkpack.session.keys import KeyReference

__all__ = ["ReleaseResult", "release"]

_EXPORTER: Final = "exporter"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseResult:
    """What an exporter made."""

    files: tuple[Path, ...]
    """Files and folders, in the output folder."""
    notes: tuple[str, ...]
    """What to do next."""


class _View:
    """A verified bundle as a `sdkpack.plugin.BundleView`."""

    def __init__(self, bundle: VerifiedBundle, path: Path, manifest: Mapping[str, Any]) -> None:
        self._bundle = bundle
        self.path = path
        self.manifest = manifest

    @property
    def encrypted(self) -> bool:
        return self._bundle.encrypted

    @property
    def identity(self) -> str:
        return self._bundle.identity

    def read(self, path: str) -> bytes:
        return self._bundle.read(path)


def release(
    bundle: Path,
    *,
    settings: Mapping[str, Any],
    name: str,
    out: Path,
    trust: Any,
    registry: Registry,
    store: Store,
    allow_unsigned: bool = False,
    keys: Sequence[KeyReference | Identity] = (),
    reporter: Reporter | None = None,
    cancel: threading.Event | None = None,
    overwrite: bool = False,
    files: FileSystem | None = None,
) -> ReleaseResult:
    """Makes a release of a bundle.

    Args:
        bundle: the bundle's file.
        settings: the recipe's `[release.NAME]`.
        name: the release's name there; the exporter's, where the settings name none.
        out: the folder that the results go to; made where absent.
        trust: whose signature the bundle must bear, as for `sdkpack.session.opening.verify_bundle`. The keys that
            signed become the release's trust anchor.
        registry: the plugins in use.
        store: has the work folder.
        allow_unsigned: takes a bundle that nobody signed; the release then has no trust anchor.
        keys: what opens an encrypted bundle.
        reporter: gets told how it goes.
        cancel: set it to stop.
        overwrite: replaces results of an earlier run.
        files: the file system that the results are written to.

    Raises:
        BundleError: the bundle does not verify.
        DocumentError: the settings are not the exporter's.
        PluginError: there is no such exporter, or it broke its contract.
        OutputError: the output folder cannot be written.
    """
    from sdkpack.session.opening import verify_bundle

    row = registry.exporter(str(settings.get(_EXPORTER, name)))
    given = {key: value for key, value in settings.items() if key != _EXPORTER}
    params = ParamSchema(row.info).instance(given, path=f"release.{name}")
    exporter: Exporter = load_class(row, row.info.load)()
    surroundings = step_context(
        f"release/{name}",
        plugin=row.info.name,
        store=store,
        reporter=reporter or NullReporter(),
        cancel=cancel or threading.Event(),
        environment=dict(os.environ),
    )
    opened = verify_bundle(bundle, trust=trust, allow_unsigned=allow_unsigned, keys=keys, registry=registry)
    with opened as verified, surroundings as context:
        request = _request(verified, bundle, params, registry)
        result = exporter.export(request, context)
        made = _checked(result, context.work, row.info.name)
        placed = tuple(_place(path, out, overwrite=overwrite, files=files or FileSystem()) for path in made)
        return ReleaseResult(files=placed, notes=tuple(result.notes))


def _request(verified: VerifiedBundle, path: Path, params: Any, registry: Registry) -> ExportRequest:
    manifest: Any = verified.document
    rows = _rows(manifest, registry)
    return ExportRequest(
        bundle=_View(verified, path, manifest.to_object()),
        params=params,
        trusted_keys=_trusted(verified),
        distributions=dict(manifest.plugins) or needed_distributions(rows),
        plugin_modules=tuple(sorted({row.plugin.module for row in rows})),
    )


def _rows(manifest: Manifest, registry: Registry) -> list[Registered[Any]]:
    """The runtimes and operators that the bundle runs."""
    parts = (part for model in manifest.models.values() for variant in model.variants for part in variant.parts)
    rows: list[Registered[Any]] = [registry.runtime(name) for name in sorted({part.runtime for part in parts})]
    steps = (step.op for pipeline in manifest.pipelines.values() for step in pipeline.steps if step.op is not None)
    for text in sorted(set(steps)):
        name, _, version = text.rpartition("/")
        rows.append(registry.operator(name, int(version)))
    return rows


def _trusted(verified: VerifiedBundle) -> tuple[str, ...]:
    from sdkpack.crypto.keyfile import format_key

    return tuple(format_key(trusted.key) + "\n" for trusted in verified.signed_by)


def _checked(result: object, work: Path, exporter: str) -> list[Path]:
    if not isinstance(result, ExportResult) or not result.files:
        raise PluginBrokenError(f"exporter {exporter!r} did not return what it made")
    paths = [Path(path) for path in result.files]
    for path in paths:
        inside = path.parent.resolve() == work.resolve()
        if not inside or path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise PluginBrokenError(
                f"exporter {exporter!r} returned {path}, which is no file or folder of its work folder"
            )
    if len({path.name for path in paths}) != len(paths):
        raise PluginBrokenError(f"exporter {exporter!r} returned two results of one name")
    return paths


def _place(path: Path, out: Path, *, overwrite: bool, files: FileSystem) -> Path:
    """Moves a result to the output folder, whole or not at all."""
    target = out / path.name
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = files.open_folder(out)
        try:
            clean_leftovers(folder, files)
        finally:
            files.close(folder)
        if path.is_dir():
            _place_folder(path, target, overwrite=overwrite)
        else:
            _place_file(path, target, overwrite=overwrite, files=files)
    except OSError as error:
        raise output_error(error, target) from error
    return target


def _place_file(path: Path, target: Path, *, overwrite: bool, files: FileSystem) -> None:
    from sdkpack.bundle.files import atomic_file

    with path.open("rb") as source, atomic_file(target, overwrite=overwrite, files=files) as out:
        while block := source.read(1 << 20):
            out.write(block)


def _place_folder(path: Path, target: Path, *, overwrite: bool) -> None:
    """A folder takes its name when all of it is copied; an older one of that name goes first."""
    if target.exists() and not overwrite:
        raise OutputError(f"'{target}' exists already", hint="choose another folder, or allow overwriting (--force)")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OutputError(f"cannot write '{target}': it exists and is no folder")
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(path, part)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
