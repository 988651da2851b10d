"""Recipients and signers of a recipe: from references to what the bundle's writer takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkpack.build.findings import Findings
from sdkpack.documents.recipe import EncryptSection, SignSection
from sdkpack.errors import KeyFileError
from sdkpack.host.registry import Registry, load_class

if TYPE_CHECKING:
    from sdkpack.bundle import Seal
    from sdkpack.crypto.recipients import Recipient
    from sdkpack.crypto.signature import Signer
    from sdkpack.session.keys import KeyReference

__all__ = ["seal_of", "signers_of"]

_SCHEME: Final = re.compile(r"([a-z][a-z0-9_.-]+):(.*)", re.DOTALL)


def seal_of(section: EncryptSection | None, *, folder: Path, registry: Registry, findings: Findings) -> Seal | None:
    """How to encrypt, or None for a plain bundle. Keys that cannot be used are told to `findings`.

    Args:
        section: the recipe's `[encrypt]`.
        folder: what key files are relative to.
        registry: has the key providers.
        findings: gets what is wrong.
    """
    if section is None:
        return None
    from sdkpack.bundle import Seal

    recipients: list[Recipient] = []
    for number, reference in enumerate(section.recipients):
        with findings.at(f"encrypt.recipients[{number}]"):
            recipients += _recipients(reference, folder, registry)
    line_key: bytes | None = None
    if section.line_key is not None:
        with findings.at("encrypt.line_key"):
            line_key = _line_key(section.line_key, folder, registry)
    if not recipients or findings:
        return None
    return Seal(recipients=tuple(recipients), chunk_log2=section.chunk_log2, line_key=line_key)


def signers_of(
    section: SignSection | None, *, folder: Path, registry: Registry, findings: Findings
) -> tuple[Signer, ...]:
    """Who signs. Keys that cannot be used are told to `findings`."""
    from sdkpack.crypto.signature import SigningKey

    signers: list[Signer] = []
    for number, reference in enumerate(section.keys() if section is not None else ()):
        path = "sign.key" if section is not None and isinstance(section.key, str) else f"sign.key[{number}]"
        with findings.at(path):
            own = _provider(reference, registry, "sign")
            if own is not None:
                signers.append(_ProviderSigner(*own))
            else:
                signers += _of_kind(_keys(reference, folder, registry), SigningKey, reference, "signs")
    return tuple(signers)


def _recipients(reference: str, folder: Path, registry: Registry) -> list[Recipient]:
    from sdkpack.crypto.keyfile import public_part
    from sdkpack.crypto.recipients import HpkeRecipient, Kek, PluginRecipient

    own = _provider(reference, registry, "wrap")
    if own is not None:
        name, provider, rest = own
        return [PluginRecipient(name, lambda cek, bundle_id: _wrapped(provider.wrap(rest, cek, bundle_id)))]
    keys = _keys(reference, folder, registry)
    found: list[Any] = [key if isinstance(key, Kek) else public_part(key) for key in keys]
    return _of_kind(found, (HpkeRecipient, Kek), reference, "can be given a bundle")


def _wrapped(result: tuple[bytes, bytes]) -> tuple[tuple[()], bytes]:
    # Anonymous: a key's id would tell observers of the bundle whose it is.
    return (), result[1]


def _line_key(reference: str, folder: Path, registry: Registry) -> bytes:
    from sdkpack.crypto.keys import LineKey

    found: Sequence[LineKey] = _of_kind(_keys(reference, folder, registry), LineKey, reference, "is a line key")
    return found[0].secret


def _keys(reference: str, folder: Path, registry: Registry) -> tuple[Any, ...]:
    from sdkpack.session.keys import load_keys

    # A recipe's files are beside it, wherever the packer was started.
    place: KeyReference = reference if _SCHEME.fullmatch(reference) else folder / reference
    return load_keys(place, registry)


def _provider(reference: str, registry: Registry, capability: str) -> tuple[str, Any, str] | None:
    """The provider that does `capability` where the key lives, rather than hand the key out."""
    match = _SCHEME.fullmatch(reference)
    if match is None:
        return None
    row = registry.key_provider(match[1])
    if capability not in row.info.capabilities or "load" in row.info.capabilities:
        return None
    return row.info.name, load_class(row, row.info.load)(), match[2]


def _of_kind(keys: Iterable[Any], kind: Any, reference: str, does: str) -> list[Any]:
    keys = tuple(keys)
    found = [key for key in keys if isinstance(key, kind)]
    if not found:
        have = (
            ", ".join(sorted({type(key).__name__ for key in keys if key is not None})) or "secret ones of other kinds"
        )
        raise KeyFileError(
            f"{reference} has no key that {does}, only {have}", hint="see what is in it: sdkpack keys show"
        )
    return found


class _ProviderSigner:
    """Signs inside a key provider. Its public key is learnt by the first signature."""

    def __init__(self, name: str, provider: Any, reference: str) -> None:
        self._provider = provider
        self._reference = reference
        self.alg, self.public_key, _ = provider.sign(reference, b"sdkpack/1 which key is this")

    def sign(self, message: bytes) -> bytes:
        alg, public_key, signature = self._provider.sign(self._reference, message)
        if (alg, public_key) != (self.alg, self.public_key):
            raise KeyFileError(f"the key provider signed with another key the second time, for {self._reference!r}")
        return bytes(signature)
