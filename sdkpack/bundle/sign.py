"""Signing a bundle that exists: into a new file, beside it, or in two steps for keys that are elsewhere.

A signature says who stands behind a bundle: verify it before you sign it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sdkpack.bundle.copying import copy_range
from sdkpack.bundle.files import FileSystem, atomic_file
from sdkpack.bundle.trust import Signature, encode_signatures
from sdkpack.crypto.signature import ECDSA, InvalidSignature, Signer, VerifyingKey, ecdsa_from_der
from sdkpack.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sdkpack.bundle.reader import UntrustedBundle

__all__ = ["attach", "counter_sign", "detached", "sign_message", "signature_by"]


def sign_message(message: bytes, signers: Iterable[Signer]) -> list[Signature]:
    """Signs with each signer, in stored order; a key that is given twice signs once."""
    keys = {(signer.alg, hashlib.sha256(signer.public_key).digest()): signer for signer in signers}
    return [Signature(*name, keys[name].sign(message)) for name in sorted(keys)]


def signature_by(key: VerifyingKey, message: bytes, signature: bytes) -> Signature:
    """Makes a signature that was computed elsewhere (HSM, air-gapped machine) fit for a bundle.

    Args:
        key: whose it is.
        message: the 148 bytes that were exported (`UntrustedBundle.message`).
        signature: raw, or for ECDSA also DER as most tools write it.

    Raises:
        SignatureError: it is not this key's signature over this message.
    """
    try:
        raw = ecdsa_from_der(signature) if key.alg == ECDSA and len(signature) != 64 else signature
        key.verify(message, raw)
    except (InvalidSignature, ValueError, OverflowError):
        raise SignatureError(
            "the signature is not this key's over this bundle", hint="sign the exported message, as it is"
        ) from None
    return Signature(key.alg, key.key_id, raw)


def detached(bundle: UntrustedBundle, signers: Sequence[Signer]) -> bytes:
    """Returns the content of `NAME.sdkpack.sig`: signatures that lie beside the bundle."""
    return encode_signatures(sign_message(bundle.message, signers))


def counter_sign(
    bundle: UntrustedBundle,
    target: Path,
    signers: Sequence[Signer],
    *,
    overwrite: bool = False,
    files: FileSystem | None = None,
) -> None:
    """Writes a copy of the bundle with further signatures; its identity stays.

    Raises:
        OutputError: the target cannot be written.
    """
    attach(bundle, target, sign_message(bundle.message, signers), overwrite=overwrite, files=files)


def attach(
    bundle: UntrustedBundle,
    target: Path,
    signatures: Iterable[Signature],
    *,
    overwrite: bool = False,
    files: FileSystem | None = None,
) -> None:
    """Writes a copy of the bundle with further signatures, which replace earlier ones by the same keys.

    Raises:
        OutputError: the target cannot be written.
        LimitError: too many signatures.
    """
    structure = bundle.structure
    merged = {(item.alg, item.key_id): item for item in (*structure.signatures, *signatures)}
    encoded = encode_signatures(list(merged.values()))
    trailer = structure.trailer.with_signatures(len(encoded))
    with atomic_file(target, overwrite=overwrite, files=files) as out:
        copy_range(structure.source, out, 0, structure.trailer.signatures_offset)
        out.write(encoded)
        out.write(trailer.encode())
