"""`sdkpack keys`: make and show keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdkpack.cli.console import Console, table, verb_options

if TYPE_CHECKING:
    from sdkpack.crypto.keyfile import Key

__all__ = ["command"]

_TYPES = {
    "recipient": ("hpke-x25519", "hpke-mlkem768x25519", "hpke-p384"),
    "signing": ("ed25519", "ecdsa-p256-sha256", "ml-dsa-65"),
    "kek": ("aes-256-gcm",),
    "line": ("hmac-sha256",),
}
_USES = {
    "recipient": (
        "encrypt.recipients",
        "opens bundles: give the customer the .key, or let him make it and send the .pub",
    ),
    "signing": ("sign.key", "signs bundles: keep the .key, publish the .pub for --trust"),
    "kek": ("encrypt.recipients", "opens and seals bundles: both sides hold the same secret"),
    "line": ("encrypt.line_key", "lets releases of one product line share ciphertext: keep it"),
}


@click.group("keys")
def command() -> None:
    """Make and show keys.

    A key file is text, one key a line; its format is described in sdkpack/crypto/keyfile.py. A file with a secret must
    be readable by its owner alone.
    """


@command.command("new")
@click.argument("use", type=click.Choice(list(_TYPES)))
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--type", "kind", help="The algorithm; the first of its list where absent.")
@verb_options
def new(console: Console, use: str, name: Path, kind: str | None) -> None:
    """Make a key: NAME.key, and NAME.pub where there is a public part.

    \b
    recipient  who can open a bundle   hpke-x25519, hpke-mlkem768x25519 (post-quantum hybrid), hpke-p384
    signing    who made a bundle       ed25519, ecdsa-p256-sha256, ml-dsa-65 (post-quantum)
    kek        a shared secret         aes-256-gcm
    line       a product line's secret hmac-sha256
    """
    from sdkpack.crypto.keyfile import public_part, write_key_file
    from sdkpack.errors import UsageError

    if kind is not None and kind not in _TYPES[use]:
        raise UsageError(f"{kind!r} is no {use} key, expected {' or '.join(_TYPES[use])}")
    stem = name.with_suffix("") if name.suffix in {".key", ".pub"} else name
    key = _generate(use, kind or _TYPES[use][0])
    secret, public = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")
    _refuse_existing(secret, public)
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_key_file(secret, key)
    files = [str(secret)]
    part = public_part(key)
    if part is not None:
        write_key_file(public, part)
        files.append(str(public))
    where, use_text = _USES[use]
    facts = {"files": files, "type": kind or _TYPES[use][0], "recipe": where}
    console.result(f"wrote {' and '.join(files)}", facts)
    console.hint(f"in a recipe: {where}; it {use_text}")


@command.command("show")
@click.argument("reference")
@verb_options
def show(console: Console, reference: str) -> None:
    """Show what a key REFERENCE (a file, or env:NAME) holds: use, algorithm, key id and the public key; no secret."""
    from sdkpack.host.registry import Registry
    from sdkpack.session.keys import load_keys

    facts = [_facts(key) for key in load_keys(reference, Registry.scan)]
    rows = [(fact["use"], fact["type"], fact.get("key_id", "-")[:16], fact.get("public", "-")) for fact in facts]
    console.result(table([("USE", "TYPE", "KEY ID", "PUBLIC KEY"), *rows]), {"keys": facts})


def _generate(use: str, kind: str) -> Key:
    from sdkpack.crypto.keys import LineKey
    from sdkpack.crypto.recipients import HpkeIdentity, Kek
    from sdkpack.crypto.signature import SigningKey

    match use:
        case "recipient":
            return HpkeIdentity.generate(kind, os.urandom)
        case "signing":
            return SigningKey.generate(kind, os.urandom)
        case "kek":
            return Kek(os.urandom(32))
        case _:
            return LineKey(os.urandom(32))


def _refuse_existing(*paths: Path) -> None:
    from sdkpack.errors import KeyFileError

    for path in paths:
        if path.exists():
            raise KeyFileError(
                f"{path} is there already; a key that is replaced is lost, with every bundle that it opens",
                hint="choose another name, or move the old one away",
            )


def _facts(key: Key) -> dict[str, Any]:
    from sdkpack.crypto.keyfile import format_key, public_part
    from sdkpack.crypto.recipients import HpkeIdentity, HpkeRecipient, Kek
    from sdkpack.crypto.signature import SigningKey, VerifyingKey

    public = public_part(key)
    facts: dict[str, Any] = {"secret": public is not key}
    match key:
        case HpkeIdentity() | HpkeRecipient():
            facts |= {"use": "recipient", "type": key.type}
        case SigningKey() | VerifyingKey():
            facts |= {"use": "signing", "type": key.alg}
        case Kek():
            facts |= {"use": "kek", "type": "aes-256-gcm"}
        case _:
            facts |= {"use": "line", "type": "hmac-sha256"}
    if public is not None:
        facts |= {"key_id": public.key_id.hex(), "public": format_key(public)}
    return facts
