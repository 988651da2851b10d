"""`sdkpack inspect`: what a bundle says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, size_text, table, verb_options

if TYPE_CHECKING:
    from sdkpack.bundle.reader import BundleInfo, UntrustedBundle
    from sdkpack.crypto.recipients import Identity

__all__ = ["command"]


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", "keys", multiple=True, metavar="FILE", help="Open an encrypted bundle to see its contents.")
@verb_options
def command(console: Console, bundle: Path, keys: tuple[str, ...]) -> None:
    """Show what BUNDLE says of itself: name, size, who can open it, who signed it.

    Needs no key and proves nothing; for proof, see: sdkpack verify. Of a plain bundle, or with a key, its models,
    pipelines and files are shown too.
    """
    from sdkpack.bundle.reader import open_bundle

    with open_bundle(bundle) as untrusted:
        info = untrusted.info
        contents = _contents(untrusted, keys) if keys or not info.encrypted else None
    facts = _facts(info)
    if contents is not None:
        facts |= contents
    console.result(_page(info, contents), facts)
    console.hint(f"nothing here is verified; see: sdkpack verify {bundle}")


def _facts(info: BundleInfo) -> dict[str, Any]:
    return {
        "about": info.about,
        "identity": info.identity,
        "size_bytes": info.size_bytes,
        "encrypted": info.encrypted,
        "recipients": [{"type": kind, "key_id": key_id.hex()} for kind, key_id in info.recipients],
        "signatures": [{"alg": alg, "key_id": key_id.hex()} for alg, key_id in info.signatures],
        "parts": [
            {"sha256": digest.hex(), "offset": offset, "size_bytes": size} for digest, offset, size in info.blobs
        ],
        "verified": False,
    }


def _contents(untrusted: UntrustedBundle, keys: tuple[str, ...]) -> dict[str, Any]:
    from sdkpack.bundle.trust import TrustPolicy

    opening: tuple[Identity, ...] = ()
    if keys:
        from sdkpack.host.registry import Registry
        from sdkpack.session.keys import identities_of

        opening = identities_of(keys, Registry.scan)
    verified = untrusted.verify(policy=TrustPolicy(allow_unsigned=True), identities=opening, check_blobs=False)
    files = [
        {"path": path, "size_bytes": file.size_bytes, "media_type": file.media_type, "sha256": file.sha256.hex()}
        for path, file in verified.files.items()
    ]
    return {"manifest": verified.manifest, "files": files}


def _page(info: BundleInfo, contents: dict[str, Any] | None) -> str:
    about = info.about
    sequence = f" (sequence {about['sequence']})" if about.get("sequence") else ""
    rows = [
        ("identity", info.identity),
        ("size", f"{size_text(info.size_bytes)} in {len(info.blobs)} parts"),
        ("encrypted", _recipients(info)),
        ("signed", ", ".join(f"{alg} {key_id.hex()[:16]}" for alg, key_id in info.signatures) or "no"),
        ("licence", str(about.get("license", "not stated"))),
    ]
    lines = [f"{about.get('name', '?')} {about.get('version', '?')}{sequence}", table(rows, indent="  ")]
    if contents is not None:
        lines += _content_lines(contents)
    return "\n".join(lines)


def _recipients(info: BundleInfo) -> str:
    if not info.encrypted:
        return "no"
    shown = [f"{kind} {key_id.hex()[:16]}" if key_id else f"{kind} (anonymous)" for kind, key_id in info.recipients]
    return f"yes, for {', '.join(shown)}"


def _content_lines(contents: dict[str, Any]) -> list[str]:
    manifest = contents["manifest"]
    lines = [str(manifest["summary"])] if manifest.get("summary") else []
    for name, model in manifest.get("models", {}).items():
        lines.append(f"model {name}")
        lines += [f"  in   {_tensor(tensor)}" for tensor in model["inputs"]]
        lines += [f"  out  {_tensor(tensor)}" for tensor in model["outputs"]]
        lines += [f"  for  {_variant(variant)}" for variant in model["variants"]]
    for name, pipeline in manifest.get("pipelines", {}).items():
        takes = ", ".join(f"{key}: {kind}" for key, kind in pipeline["inputs"].items())
        gives = ", ".join(f"{key}: {output['type']}" for key, output in pipeline["outputs"].items())
        lines += [f"pipeline {name}({takes}) -> {gives}"]
        lines += [f"  {step.get('op') or 'model ' + step['model']}" for step in pipeline["steps"]]
    rows = [(size_text(file["size_bytes"]), file["media_type"], file["path"]) for file in contents["files"]]
    return [*lines, "files", table(rows, indent="  ")]


def _tensor(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']}: {tensor['dtype']} [{', '.join(map(str, tensor['shape']))}]"


def _variant(variant: dict[str, Any]) -> str:
    runtimes = " then ".join(part["runtime"] for part in variant["parts"])
    checks = [evidence["check"] for evidence in variant.get("evidence", ()) if evidence["passed"]]
    proven = f", proven: {', '.join(checks)}" if checks else ""
    return f"{variant['target']}: {runtimes}, {variant['precision']}{proven}"
