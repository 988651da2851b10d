"""`sdkpack sign`: further signatures, also by keys that never come to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from sdkpack.cli.access import bundle_argument
from sdkpack.cli.console import Console, verb_options
from sdkpack.errors import UsageError

__all__ = ["command"]


@click.command("sign")
@bundle_argument
@click.option("--key", "keys", multiple=True, metavar="REFERENCE", help="A signing key. May be repeated.")
@click.option("--detached", is_flag=True, help="Write the signatures beside the bundle, as BUNDLE.sig.")
@click.option("--export", type=click.Path(path_type=Path), help="Write the 148 bytes that a key elsewhere shall sign.")
@click.option("--attach", type=click.Path(path_type=Path), help="Add a signature that was made elsewhere.")
@click.option("--public-key", metavar="REFERENCE", help="With --attach: whose signature it is.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The signed copy; BUNDLE itself where absent.")
@click.option("-f", "--force", is_flag=True, help="Replace an output that is there.")
@verb_options
def command(
    console: Console,
    bundle: Path,
    keys: tuple[str, ...],
    detached: bool,
    export: Path | None,
    attach: Path | None,
    public_key: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Add a signature to BUNDLE. Its contents and identity stay as they are.

    \b
    With a key here:       sdkpack sign BUNDLE --key publisher.key
    With a key elsewhere:  sdkpack sign BUNDLE --export message.bin
                           (sign message.bin there)
                           sdkpack sign BUNDLE --attach signature.bin --public-key publisher.pub
    """
    if sum((bool(keys), export is not None, attach is not None)) != 1:
        raise UsageError("give one of --key, --export and --attach", hint="sdkpack sign --help shows all three ways")
    if export is not None:
        _export(console, bundle, export, force=force)
    elif attach is not None:
        _attach(console, bundle, attach, public_key, output)
    else:
        _sign(console, bundle, keys, output, detached=detached, force=force)


def _sign(
    console: Console, bundle: Path, keys: tuple[str, ...], output: Path | None, *, detached: bool, force: bool
) -> None:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.bundle.sign import counter_sign
    from sdkpack.bundle.sign import detached as detached_signatures
    from sdkpack.host.registry import Registry
    from sdkpack.session.publishing import signers

    made = signers(keys, Registry.scan)
    with open_bundle(bundle) as untrusted:
        if detached:
            target = output or bundle.with_name(bundle.name + ".sig")
            with atomic_file(target, overwrite=force) as file:
                file.write(detached_signatures(untrusted, made))
        else:
            target = output or bundle
            counter_sign(untrusted, target, made, overwrite=force or output is None)
    console.result(f"wrote {target}", {"output": str(target), "signatures": len(made)})


def _export(console: Console, bundle: Path, export: Path, *, force: bool) -> None:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.bundle.reader import open_bundle

    with open_bundle(bundle) as untrusted, atomic_file(export, overwrite=force) as file:
        file.write(untrusted.message)
    console.result(f"wrote {export}", {"output": str(export)})
    console.hint(f"sign it as it is, then: sdkpack sign {bundle} --attach SIGNATURE --public-key KEY.pub")


def _attach(console: Console, bundle: Path, attach: Path, public_key: str | None, output: Path | None) -> None:
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.bundle.sign import attach as attach_signatures
    from sdkpack.bundle.sign import signature_by
    from sdkpack.host.registry import Registry
    from sdkpack.session.keys import trust_policy

    if public_key is None:
        raise UsageError("--attach needs --public-key: whose signature it is")
    policy, _ = trust_policy(public_key, Registry.scan)
    signature = attach.read_bytes()
    target = output or bundle
    with open_bundle(bundle) as untrusted:
        made = [signature_by(trusted.key, untrusted.message, signature) for trusted in policy.keys]
        attach_signatures(untrusted, target, made, overwrite=True)
    console.result(f"wrote {target}", {"output": str(target), "signatures": len(made)})
