"""`sdkpack unpack`: a verified bundle's files, as files."""

from __future__ import annotations

from pathlib import Path

import click

from sdkpack.cli.access import bundle_argument, key_options, stated_trust, trust_options
from sdkpack.cli.console import Console, size_text, verb_options

__all__ = ["command"]


@click.command("unpack")
@bundle_argument
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write into.")
@trust_options
@key_options
@verb_options
def command(
    console: Console,
    bundle: Path,
    output: Path,
    trust: tuple[str, ...],
    allow_unsigned: bool,
    keys: tuple[str, ...],
) -> None:
    """Verify BUNDLE and write its files, and manifest.json, into a folder. The files are plaintext from then on.

    Existing files are never replaced, links in the folder never followed.
    """
    import json

    from sdkpack.bundle.files import atomic_file
    from sdkpack.host.registry import Registry
    from sdkpack.session.opening import verify_bundle

    stated = stated_trust(trust, allow_unsigned)
    with verify_bundle(
        bundle, trust=stated, allow_unsigned=allow_unsigned, keys=keys, registry=Registry.scan
    ) as verified:
        verified.unpack(output)
        text = json.dumps(verified.manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        with atomic_file(output / "manifest.json", overwrite=True) as file:
            file.write(text.encode())
        count, total = len(verified.files), sum(file.size_bytes for file in verified.files.values())
    console.result(
        f"unpacked {count} files, {size_text(total)}, into {output}",
        {"folder": str(output), "files": count, "size_bytes": total},
    )
