"""Makes the release: a wheel, and beside it, where asked for, a folder with everything that installing it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from sdkpack.builtin.wheel.annotations import class_name
from sdkpack.builtin.wheel.api import write_api
from sdkpack.builtin.wheel.archive import WheelArchive
from sdkpack.builtin.wheel.names import ReleaseNames
from sdkpack.builtin.wheel.params import WheelParams
from sdkpack.builtin.wheel.wheelhouse import collect_wheelhouse
from sdkpack.errors import UsageError
from sdkpack.plugin import ExportRequest, ExportResult, StepContext

__all__ = ["WheelExporter"]

_COPIED: Final = {"_command.py": "command.py"}


class WheelExporter:
    """Bundle, typed API, console command, licences; the publisher's public key to trust, never a content key."""

    def export(self, request: ExportRequest, context: StepContext) -> ExportResult:
        params: WheelParams = request.params
        manifest = request.bundle.manifest
        names = ReleaseNames.of(manifest, params)
        wheel = context.work / f"{names.stem}-py3-none-any.whl"
        context.progress(None, f"writing {wheel.name}")
        self._write(wheel, request, names, params)
        outputs, notes = [wheel], [f"install it: pip install {wheel.name}"]
        if params.wheelhouse:
            folder = context.work / "wheelhouse"
            collect_wheelhouse(wheel, folder, request.distributions, context)
            outputs = [wheel, folder]
            notes = [
                f"install it without a network: pip install --no-index --find-links wheelhouse {names.distribution}"
            ]
        if request.bundle.encrypted:
            notes.append(
                f"then: {names.command} --key CUSTOMER.key FILE, or put the key file's name into {names.key_variable}"
            )
        return ExportResult(files=tuple(outputs), notes=tuple(notes))

    def _write(self, wheel: Path, request: ExportRequest, names: ReleaseNames, params: WheelParams) -> None:
        manifest, package = request.bundle.manifest, names.package
        trust_files = tuple(f"publisher-{number}.pub" for number, _ in enumerate(request.trusted_keys, start=1))
        dist_info = f"{names.stem}.dist-info"
        archive = WheelArchive(wheel, dist_info)
        api = write_api(
            manifest, names, encrypted=request.bundle.encrypted, trust_files=trust_files, plugins=request.plugin_modules
        )
        archive.add_text(f"{package}/__init__.py", api)
        archive.add_text(f"{package}/py.typed", "")
        for name, source in _COPIED.items():
            text = (files("sdkpack.builtin.wheel.product") / source).read_text("utf-8")
            archive.add_text(f"{package}/{name}", text)
        if names.pipeline:
            facts = _facts(manifest, names, params, encrypted=request.bundle.encrypted)
            archive.add_text(f"{package}/product.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")
            archive.add_text(f"{dist_info}/entry_points.txt", _entry_points(names))
        for name, key in zip(trust_files, request.trusted_keys, strict=True):
            archive.add_text(f"{package}/trust/{name}", key)
        archive.add_file(f"{package}/data/{names.bundle_file}", request.bundle.path)
        licenses = self._add_licenses(archive, request, dist_info)
        archive.add_text(f"{dist_info}/METADATA", _metadata(manifest, names, params, request.distributions, licenses))
        archive.add_text(
            f"{dist_info}/WHEEL", "Wheel-Version: 1.0\nGenerator: sdkpack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.close()

    def _add_licenses(self, archive: WheelArchive, request: ExportRequest, dist_info: str) -> list[str]:
        """Puts the notices of everything inside where installers and auditors look for them."""
        named: list[str] = []
        for number, notice in enumerate(request.bundle.manifest.get("notices", ()), start=1):
            if not notice.get("file"):
                continue
            name = f"{number:02d}-{notice['file'].rpartition('/')[2]}"
            archive.add_bytes(f"{dist_info}/licenses/{name}", request.bundle.read(notice["file"]))
            named.append(name)
        return named


def _facts(manifest: Mapping[str, Any], names: ReleaseNames, params: WheelParams, *, encrypted: bool) -> dict[str, Any]:
    pipeline = manifest["pipelines"][names.pipeline]
    inputs = list(pipeline["inputs"])
    if len(inputs) != 1:
        raise UsageError(
            f"the command runs pipeline {names.pipeline!r}, which takes {len(inputs)} inputs; it can hand over one",
            hint="name a pipeline with one input: release.wheel.pipeline",
        )
    _check_shown(params.show, pipeline["outputs"])
    return {
        "class": class_name(names.package),
        "command": names.command,
        "encrypted": encrypted,
        "input": inputs[0],
        "key_variable": names.key_variable,
        "params": pipeline.get("params", {}),
        "pipeline": names.pipeline,
        "show": params.show,
        "summary": manifest.get("summary", ""),
        "version": names.version,
    }


def _check_shown(show: str, outputs: Mapping[str, Any]) -> None:
    first = show.split(".")[0]
    if show and first not in outputs:
        raise UsageError(f"release.wheel.show: no output {first!r}, the pipeline gives {', '.join(outputs)}")


def _entry_points(names: ReleaseNames) -> str:
    return f"[console_scripts]\n{names.command} = {names.package}._command:main\n"


def _metadata(
    manifest: Mapping[str, Any],
    names: ReleaseNames,
    params: WheelParams,
    distributions: Mapping[str, str],
    licenses: list[str],
) -> str:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {names.distribution}",
        f"Version: {names.version}",
        f"Summary: {_line(manifest.get('summary', ''))}",
        "Requires-Python: >=3.11",
    ]
    lines += [f"Author: {_line(params.author)}"] if params.author else []
    lines += [f"Project-URL: Homepage, {_line(params.url)}"] if params.url else []
    lines += [f"License-Expression: {_line(manifest['license'])}"] if manifest.get("license") else []
    lines += [f"License-File: {name}" for name in licenses]
    lines += [f"Requires-Dist: {name}{_compatible(version)}" for name, version in sorted(distributions.items())]
    return "\n".join(lines) + "\n\n" + _description(manifest)


def _description(manifest: Mapping[str, Any]) -> str:
    parts = [f"{manifest['name']} {manifest['version']}", ""]
    parts += [f"{notice['title']}: {notice.get('license', 'see its file')}" for notice in manifest.get("notices", ())]
    return "\n".join(parts) + "\n"


def _line(text: str) -> str:
    """One header line: a line end would start another header."""
    return " ".join(str(text).split())


def _compatible(version: str) -> str:
    """What this release was checked with, or a later patch: `>=1.4.2,<1.5`; before 1.0 a minor is a break."""
    parts = version.split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts[:2]):
        return f"=={version}"
    return f">={version},<{parts[0]}.{int(parts[1]) + 1}"
