"""`sdkpack rewrap`: change who can open a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sdkpack.cli.access import bundle_argument, key_options, policy, trust_options
from sdkpack.cli.console import Console, verb_options
from sdkpack.errors import UsageError

__all__ = ["command"]


@click.command("rewrap")
@bundle_argument
@key_options
@click.option("--to", "recipients", multiple=True, metavar="REFERENCE", help="Who shall open it. May be repeated.")
@click.option("--add", is_flag=True, help="Keep those who can open it now.")
@click.option("--grant", is_flag=True, help="Write a grant of a kilobyte for them instead of a copy of the bundle.")
@click.option("--rekey", is_flag=True, help="Give the copy a new content key; it must be signed anew.")
@click.option("--sign", "signing_keys", multiple=True, metavar="REFERENCE", help="With --rekey: who signs the copy.")
@trust_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The new file; BUNDLE itself where absent.")
@click.option("-f", "--force", is_flag=True, help="Replace an output that is there.")
@verb_options
def command(console: Console, bundle: Path, **options: Any) -> None:
    """Change who can open BUNDLE, which one of your keys opens. Models, identity and signatures stay as they are.

    Who could open the old file may have kept its content: this is no revocation.
    """
    from sdkpack.host.registry import Registry
    from sdkpack.session.keys import identities_of
    from sdkpack.session.publishing import recipients

    if not options["recipients"]:
        raise UsageError("nobody could open the result", hint="give --to CUSTOMER.pub")
    if options["grant"] and options["rekey"]:
        raise UsageError("--grant and --rekey do not go together: a grant is for the bundle as it is")
    registry = Registry.scan
    mine = identities_of(options["keys"], registry)
    theirs = recipients(options["recipients"], registry)
    if options["grant"]:
        target = _grant(bundle, mine, theirs, options)
    elif options["rekey"]:
        target = _rekey(bundle, mine, theirs, options)
    else:
        target = _rewrap(bundle, mine, theirs, options)
    console.result(f"wrote {target} for {len(theirs)} recipient(s)", {"output": str(target), "recipients": len(theirs)})


def _rewrap(bundle: Path, mine: Any, theirs: Any, options: dict[str, Any]) -> Path:
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.bundle.rewrap import rewrap

    target: Path = options["output"] or bundle
    overwrite = options["force"] or options["output"] is None
    with open_bundle(bundle) as untrusted:
        rewrap(untrusted, target, identities=mine, recipients=theirs, keep=options["add"], overwrite=overwrite)
    return target


def _rekey(bundle: Path, mine: Any, theirs: Any, options: dict[str, Any]) -> Path:
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.bundle.rewrap import rekey
    from sdkpack.host.registry import Registry
    from sdkpack.session.publishing import signers

    target: Path = options["output"] or bundle
    registry = Registry.scan
    with open_bundle(bundle) as untrusted:
        rekey(
            untrusted,
            target,
            policy=policy(options["trust"], options["allow_unsigned"], registry),
            identities=mine,
            recipients=theirs,
            signers=signers(options["signing_keys"], registry),
            overwrite=options["force"] or options["output"] is None,
        )
    return target


def _grant(bundle: Path, mine: Any, theirs: Any, options: dict[str, Any]) -> Path:
    from sdkpack.bundle.files import atomic_file
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.bundle.rewrap import make_grant

    target: Path = options["output"] or bundle.with_suffix(".sdkgrant")
    with open_bundle(bundle) as untrusted:
        made = make_grant(untrusted, identities=mine, recipients=theirs).encode()
    with atomic_file(target, overwrite=options["force"]) as file:
        file.write(made)
    return target
