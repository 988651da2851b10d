"""Recipients and signers of a recipe: from references to what the bundle's writer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdkpack.build.findings import Findings
from sdkpack.documents.recipe import EncryptSection, SignSection
from sdkpack.host.registry import Registry
from sdkpack.session.keys import KeyReference, has_scheme
from sdkpack.session.publishing import line_key, recipients, signers

if TYPE_CHECKING:
    from sdkpack.bundle import Seal
    from sdkpack.crypto.recipients import Recipient
    from sdkpack.crypto.signature import Signer

__all__ = ["seal_of", "signers_of"]


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

    found: list[Recipient] = []
    for number, reference in enumerate(section.recipients):
        with findings.at(f"encrypt.recipients[{number}]"):
            found += recipients([_place(reference, folder)], registry)
    line: bytes | None = None
    if section.line_key is not None:
        with findings.at("encrypt.line_key"):
            line = line_key(_place(section.line_key, folder), registry)
    if not found or findings:
        return None
    return Seal(recipients=tuple(found), chunk_log2=section.chunk_log2, line_key=line)


def signers_of(
    section: SignSection | None, *, folder: Path, registry: Registry, findings: Findings
) -> tuple[Signer, ...]:
    """Who signs. Keys that cannot be used are told to `findings`."""
    found: list[Signer] = []
    for number, reference in enumerate(section.keys() if section is not None else ()):
        path = "sign.key" if section is not None and isinstance(section.key, str) else f"sign.key[{number}]"
        with findings.at(path):
            found += signers([_place(reference, folder)], registry)
    return tuple(found)


def _place(reference: str, folder: Path) -> KeyReference:
    """A recipe's key files are beside it, wherever the packer was started."""
    return reference if has_scheme(reference) else folder / reference
