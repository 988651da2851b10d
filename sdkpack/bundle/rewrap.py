"""Changing who can open a bundle: re-wrap, rekey, grant.

None of them takes a key back: who could open the bundle once may have kept its content. Each writes a new file, since
a torn envelope would lose the bundle.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from sdkpack.bundle.copying import copy_range
from sdkpack.bundle.directory import Directory
from sdkpack.bundle.envelope import Envelope, check_recipients, data_offset_for, make_body, wrap_all
from sdkpack.bundle.files import FileSystem, atomic_file
from sdkpack.bundle.grant import Grant
from sdkpack.bundle.index import Index, open_index, seal_index
from sdkpack.bundle.layout import Prologue, Trailer, identity_of, signed_message, tail_digest
from sdkpack.bundle.sign import sign_message
from sdkpack.bundle.trust import encode_signatures
from sdkpack.crypto.keys import BUNDLE_ID_SIZE, CEK_SIZE, SALT_SIZE, KeySchedule
from sdkpack.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from sdkpack.bundle.reader import UntrustedBundle
    from sdkpack.bundle.structure import Structure
    from sdkpack.bundle.trust import TrustPolicy
    from sdkpack.crypto.recipients import Identity, Randomness, Recipient
    from sdkpack.crypto.signature import Signer

__all__ = ["make_grant", "rekey", "rewrap"]


def rewrap(
    bundle: UntrustedBundle,
    target: Path,
    *,
    identities: Sequence[Identity],
    recipients: Sequence[Recipient],
    keep: bool = False,
    overwrite: bool = False,
    randomness: Randomness = os.urandom,
    files: FileSystem | None = None,
) -> None:
    """Writes a copy for other recipients; content, signatures and identity stay.

    Args:
        bundle: an encrypted bundle.
        target: the new file; may be the old one if `overwrite`.
        identities: keys, one of which opens it.
        recipients: who shall be able to open the copy.
        keep: adds them to those that the bundle has, instead of replacing.
        overwrite: replaces an existing file.
        randomness: where nonces and salts come from.
        files: the file system.

    Raises:
        NoMatchError: none of the identities opens the bundle.
        LimitError: the envelope has no room for so many; a grant needs none.
        UsageError: a plain bundle, or a mixture of recipients that is not allowed.
    """
    structure = bundle.structure
    schedule = _unseal(structure, identities)
    stanzas = wrap_all(recipients, schedule, randomness)
    if keep and structure.envelope:
        stanzas = (*structure.envelope.stanzas, *stanzas)
        if problem := check_recipients([stanza.type for stanza in stanzas]):
            raise UsageError(f"cannot add recipients: {problem}")
    offset = structure.prologue.data_offset
    region = Envelope.seal(stanzas, schedule, structure.raw_prologue).encode(offset)
    with atomic_file(target, overwrite=overwrite, files=files) as out:
        out.write(structure.raw_prologue)
        out.write(region)
        copy_range(structure.source, out, offset, structure.source.size_bytes - offset)


def make_grant(
    bundle: UntrustedBundle,
    *,
    identities: Sequence[Identity],
    recipients: Sequence[Recipient],
    randomness: Randomness = os.urandom,
) -> Grant:
    """Wraps the content key for further recipients, outside the bundle: the content of a `.sdkgrant` file.

    Raises:
        NoMatchError: none of the identities opens the bundle.
        UsageError: a plain bundle, or a mixture of recipients that is not allowed.
    """
    structure = bundle.structure
    schedule = _unseal(structure, identities)
    stanzas = wrap_all(recipients, schedule, randomness)
    return Grant.seal(stanzas, schedule, message=structure.message, prologue=structure.raw_prologue)


def rekey(
    bundle: UntrustedBundle,
    target: Path,
    *,
    policy: TrustPolicy,
    identities: Sequence[Identity],
    recipients: Sequence[Recipient],
    signers: Sequence[Signer] = (),
    overwrite: bool = False,
    randomness: Randomness = os.urandom,
    files: FileSystem | None = None,
    now: datetime | None = None,
) -> str:
    """Writes a new bundle of the same blobs: new id, content key and index, hence a new identity to be signed.

    Blobs keep their keys and bytes (`sdkpack pack` makes new ones). The old signatures do not fit and are left out.

    Args:
        bundle: an encrypted bundle; it is verified first, since what is signed here is taken from it.
        target: the new file.
        policy: whose signatures on the old bundle are believed.
        identities: keys, one of which opens it.
        recipients: who shall be able to open the new bundle.
        signers: who signs it.
        overwrite: replaces an existing file.
        randomness: where keys and salts come from.
        files: the file system.
        now: the moment at which the policy's keys must be valid.

    Returns:
        The new identity.
    """
    old = bundle.structure
    old_schedule = _unseal(old, identities)
    bundle.verify(policy=policy, identities=identities, check_blobs=False, now=now)
    schedule = KeySchedule(randomness(CEK_SIZE), randomness(BUNDLE_ID_SIZE))
    stanzas = wrap_all(recipients, schedule, randomness)
    prologue = _new_prologue(old, make_body(stanzas, schedule.commit), schedule)
    directory = _moved(old, prologue.data_offset - old.prologue.data_offset)
    plain_index = open_index(old.raw_index, old_schedule)
    Index.decode(plain_index, directory, encrypted=True)
    tail = _Tail(prologue.encode(), directory, seal_index(plain_index, schedule, randomness(SALT_SIZE)), schedule)
    with atomic_file(target, overwrite=overwrite, files=files) as out:
        out.write(tail.raw_prologue)
        out.write(Envelope.seal(stanzas, schedule, tail.raw_prologue).encode(prologue.data_offset))
        data = old.prologue.data_offset
        copy_range(old.source, out, data, old.trailer.directory_offset - data)
        out.write(tail.encode(out.size_bytes, signers))
    return identity_of(tail.message)


class _Tail:
    """Everything after the blobs of a bundle made from an old one."""

    def __init__(self, raw_prologue: bytes, directory: Directory, index: bytes, schedule: KeySchedule) -> None:
        self.raw_prologue = raw_prologue
        self._directory = directory.encode()
        self._index = index
        self._schedule = schedule
        self._digest = tail_digest(self._directory, index)
        self.message = signed_message(raw_prologue, schedule.commit, self._digest)

    def encode(self, offset: int, signers: Sequence[Signer]) -> bytes:
        signatures = encode_signatures(sign_message(self.message, signers))
        trailer = Trailer(
            directory_offset=offset,
            directory_length=len(self._directory),
            index_length=len(self._index),
            signatures_length=len(signatures),
            tail_digest=self._digest,
            tail_mac=self._schedule.tail_mac(self.message),
        )
        return self._directory + self._index + signatures + trailer.encode()


def _unseal(structure: Structure, identities: Sequence[Identity]) -> KeySchedule:
    schedule = structure.unseal(identities)
    if schedule is None:
        raise UsageError("the bundle is not encrypted", hint="encrypt it by packing again with recipients")
    return schedule


def _new_prologue(old: Structure, body: bytes, schedule: KeySchedule) -> Prologue:
    offset = max(data_offset_for(len(body)), old.prologue.data_offset)
    return Prologue(encrypted=True, data_offset=offset, bundle_id=schedule.bundle_id)


def _moved(old: Structure, distance: int) -> Directory:
    """Data offsets are multiples of 65536, the largest alignment: all blobs move by the same distance."""
    blobs = tuple(replace(blob, offset=blob.offset + distance) for blob in old.directory.blobs)
    return Directory(about=old.directory.about, blobs=blobs)
