"""`sdkpack verify`: proof, or exit code 4."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.access import bundle_argument, key_options, stated_trust, trust_options
from sdkpack.cli.console import Console, table, verb_options
from sdkpack.errors import BundleError, UsageError

if TYPE_CHECKING:
    from sdkpack.bundle.grant import Grant
    from sdkpack.bundle.trust import Signature, TrustedKey
    from sdkpack.session.golden import GoldenResult
    from sdkpack.session.keys import Plugins

__all__ = ["command"]


@click.command("verify")
@bundle_argument
@trust_options
@key_options
@click.option("--signature", type=click.Path(path_type=Path), help="Signatures beside the bundle (NAME.sdkpack.sig).")
@click.option("--grant", type=click.Path(path_type=Path), help="A grant that opens the bundle for your key.")
@click.option("--replay", is_flag=True, help="Run everything recorded in the bundle again here, and compare.")
@verb_options
def command(
    console: Console,
    bundle: Path,
    trust: tuple[str, ...],
    allow_unsigned: bool,
    keys: tuple[str, ...],
    signature: Path | None,
    grant: Path | None,
    replay: bool,
) -> None:
    """Prove that BUNDLE is whole and made by whom you trust; with a key, that its contents are valid too.

    Without a key, an encrypted bundle's signatures and every stored byte are verified, and nothing is decrypted.
    """
    from sdkpack.bundle.grant import Grant
    from sdkpack.bundle.reader import open_bundle
    from sdkpack.host.registry import Registry

    stated = _Stated(
        bundle=bundle,
        trust=stated_trust(trust, allow_unsigned),
        allow_unsigned=allow_unsigned,
        keys=keys,
        signatures=_detached(signature),
        grant=None if grant is None else Grant.decode(grant.read_bytes()),
        registry=Registry.scan,
    )
    with open_bundle(bundle) as untrusted:
        closed = untrusted.info.encrypted and not keys
    if closed and replay:
        raise UsageError("a replay needs the models, and the bundle is encrypted", hint="give --key REFERENCE")
    facts = _public(stated) if closed else _contents(stated)
    if replay:
        facts["replay"] = _replay(console, stated)
    console.result(_page(bundle, facts), facts)
    if closed:
        console.hint("the contents were not decrypted; to check them too, give --key REFERENCE")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """What the user said about trust and keys."""

    bundle: Path
    trust: Any
    allow_unsigned: bool
    keys: tuple[str, ...]
    signatures: tuple[Signature, ...]
    grant: Grant | None
    registry: Plugins


def _public(stated: _Stated) -> dict[str, Any]:
    from sdkpack.session.opening import verify_public

    info, signed_by = verify_public(
        stated.bundle,
        trust=stated.trust,
        allow_unsigned=stated.allow_unsigned,
        registry=stated.registry,
        signatures=stated.signatures,
    )
    return {"identity": info.identity, "signed_by": _names(signed_by), "contents": False}


def _contents(stated: _Stated) -> dict[str, Any]:
    from sdkpack.session.opening import verify_bundle

    with verify_bundle(
        stated.bundle,
        trust=stated.trust,
        allow_unsigned=stated.allow_unsigned,
        keys=stated.keys,
        registry=stated.registry,
        signatures=stated.signatures,
        grant=stated.grant,
    ) as verified:
        return {
            "identity": verified.identity,
            "name": verified.manifest["name"],
            "version": verified.manifest["version"],
            "signed_by": _names(verified.signed_by),
            "contents": True,
            "files": len(verified.files),
        }


def _replay(console: Console, stated: _Stated) -> list[dict[str, Any]]:
    import sdkpack
    from sdkpack.session.golden import replay

    with sdkpack.open(
        stated.bundle,
        trust=stated.trust,
        allow_unsigned=stated.allow_unsigned,
        keys=stated.keys,
        signatures=stated.signatures,
        grant=stated.grant,
    ) as session:
        results = replay(session, progress=lambda name: console.say(f"replaying {name}") if console.terminal else None)
    failed = [result for result in results if not result.passed]
    if failed:
        raise BundleError(
            f"{len(failed)} of {len(results)} recorded runs give other answers here: {'; '.join(map(_why, failed))}",
            hint="the bundle is as it was made; this machine's runtime computes differently: sdkpack doctor",
        )
    return [
        {
            "kind": result.kind,
            "name": result.name,
            "run": result.number,
            "target": result.target,
            "outputs": {output.name: output.normalized_error for output in result.outputs},
        }
        for result in results
    ]


def _why(result: GoldenResult) -> str:
    place = f"{result.kind} {result.name}"
    if result.error:
        return f"{place}: {result.error}"
    worst = [
        f"{o.name} {o.reason or f'{o.normalized_error:.2g} > {o.tolerance:.2g}'}"
        for o in result.outputs
        if not o.passed
    ]
    return f"{place}: {', '.join(worst)}"


def _detached(path: Path | None) -> tuple[Signature, ...]:
    from sdkpack.bundle.layout import MAX_SIGNATURES_SIZE
    from sdkpack.bundle.trust import decode_signatures

    if path is None:
        return ()
    with path.open("rb") as file:
        return decode_signatures(file.read(MAX_SIGNATURES_SIZE + 1))


def _names(signed_by: tuple[TrustedKey, ...]) -> list[str]:
    return [f"{trusted.name or trusted.key.key_id.hex()[:16]} ({trusted.key.alg})" for trusted in signed_by]


def _page(bundle: Path, facts: dict[str, Any]) -> str:
    signed = ", ".join(facts["signed_by"]) or "nobody whom you trust"
    contents = f"{facts['files']} files, all as they were written" if facts["contents"] else "not decrypted"
    rows = [("identity", facts["identity"]), ("signed by", signed), ("contents", contents)]
    for run in facts.get("replay", ()):
        worst = max(run["outputs"].values(), default=0.0)
        rows.append(("replayed", f"{run['kind']} {run['name']}, greatest difference {worst:.1g}"))
    return "\n".join([f"verified {bundle}", table(rows, indent="  ")])
