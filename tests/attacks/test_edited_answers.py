"""Everything that shapes an answer is protected alike: a threshold, and which model stands under which name."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from sdkpack.bundle import BlobSource, BundleContent, FileItem, Seal, TrustPolicy, open_bundle, write_bundle
from sdkpack.bundle.sign import attach
from sdkpack.crypto.recipients import Kek
from sdkpack.crypto.signature import ED25519, SigningKey
from sdkpack.errors import BundleError

KEY = Kek(bytes(range(32)))
SIGNER = SigningKey.generate(ED25519, os.urandom)


def manifest(threshold: float) -> dict[str, Any]:
    return {"name": "n", "version": "1", "sequence": 1, "steps": [{"params": {"threshold": threshold}}]}


def content(threshold: float = 0.5, *, swapped: bool = False) -> BundleContent:
    models = {"models/front": b"front " * 50, "models/back": b"back. " * 50}
    names = list(models)
    files = tuple(
        FileItem(path=name, media_type="a/b", source=BlobSource.from_bytes(models[other]))
        for name, other in zip(names, reversed(names) if swapped else names, strict=True)
    )
    return BundleContent(manifest=manifest(threshold), files=files)


def packed(made: BundleContent, *, seal: Seal | None = None, signed: bool = False) -> bytes:
    out = io.BytesIO()
    write_bundle(made, out, seal=seal, signers=[SIGNER] if signed else [])
    return out.getvalue()


@pytest.mark.parametrize("edited", [content(0.4), content(swapped=True)], ids=["threshold", "models"])
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
def test_a_signature_does_not_move_to_an_edited_bundle(edited: BundleContent, sealed: bool, tmp_path: Path) -> None:
    seal = Seal(recipients=(KEY,)) if sealed else None
    policy = TrustPolicy.of(SIGNER.verifying_key)
    with open_bundle(packed(content(), seal=seal, signed=True)) as honest:
        honest.verify(policy=policy, identities=[KEY])
        signatures = honest.signatures
    forged = tmp_path / "forged.sdkpack"
    with open_bundle(packed(edited, seal=seal)) as bundle:
        attach(bundle, forged, signatures)
    with open_bundle(forged) as bundle, pytest.raises(BundleError) as refusal:
        bundle.verify(policy=policy, identities=[KEY])
    assert refusal.value.exit_code == 4


def test_an_unsigned_encrypted_bundle_cannot_be_edited_without_the_key() -> None:
    """Its index is ciphertext: any changed byte of it, or another bundle's under the same key, is refused."""
    seal = Seal(recipients=(KEY,))
    policy = TrustPolicy(allow_unsigned=True)
    one, other = packed(content(), seal=seal), packed(content(0.4), seal=seal)
    with open_bundle(one) as bundle:
        trailer = bundle.structure.trailer
    start, end = trailer.index_offset, trailer.index_offset + trailer.index_length
    spliced = [one[:start] + other[start:end] + one[end:]] if len(one) == len(other) else []
    flipped = [one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :] for at in range(start, end, 3)]
    assert len(spliced) == 1
    assert len(flipped) > 50
    for mutant in [*spliced, *flipped]:
        with pytest.raises(BundleError) as refusal, open_bundle(mutant) as bundle:
            bundle.verify(policy=policy, identities=[KEY])
        assert refusal.value.exit_code == 4
