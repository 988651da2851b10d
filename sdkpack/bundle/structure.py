"""The structure of a bundle: where every byte belongs, checked before any key is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdkpack.bundle.directory import Directory
from sdkpack.bundle.envelope import Envelope
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.index import check_index_length
from sdkpack.bundle.layout import (
    PROLOGUE_SIZE,
    TRAILER_SIZE,
    Prologue,
    Trailer,
    signed_message,
    tail_digest,
)
from sdkpack.bundle.source import ByteSource, read
from sdkpack.bundle.trust import Signature, decode_signatures
from sdkpack.crypto.keys import KeySchedule, equal
from sdkpack.errors import DirectoryError, PrologueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdkpack.bundle.grant import Grant
    from sdkpack.crypto.recipients import Identity

__all__ = ["Structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A bundle whose every byte is accounted for. Nothing in it is authenticated."""

    source: ByteSource = field(repr=False)
    raw_prologue: bytes
    prologue: Prologue
    envelope: Envelope | None
    raw_directory: bytes = field(repr=False)
    directory: Directory
    raw_index: bytes = field(repr=False)
    signatures: tuple[Signature, ...]
    trailer: Trailer

    @classmethod
    def read(cls, source: ByteSource) -> Structure:
        """Reads and checks everything but the blobs, outside in.

        Raises:
            BundleError: malformed; the class names the part.
        """
        size = source.size_bytes
        if size < PROLOGUE_SIZE + TRAILER_SIZE:
            raise PrologueError(f"not a bundle: {size} bytes are fewer than the smallest has")
        raw_prologue = read(source, 0, PROLOGUE_SIZE)
        prologue = Prologue.decode(raw_prologue)
        trailer = Trailer.decode(read(source, size - TRAILER_SIZE, TRAILER_SIZE), file_size=size)
        _check_bounds(prologue, trailer)
        envelope = _read_envelope(source, prologue)
        raw_directory = read(source, trailer.directory_offset, trailer.directory_length)
        directory = Directory.decode(
            raw_directory, data_offset=prologue.data_offset, directory_offset=trailer.directory_offset
        )
        check_index_length(trailer.index_length, directory, encrypted=prologue.encrypted)
        _check_gaps(source, prologue.data_offset, directory, trailer.directory_offset)
        raw_index = read(source, trailer.index_offset, trailer.index_length)
        if tail_digest(raw_directory, raw_index) != trailer.tail_digest:
            raise PrologueError("the trailer's digest does not fit the directory and the index")
        signatures = decode_signatures(read(source, trailer.signatures_offset, trailer.signatures_length))
        return cls(
            source=source,
            raw_prologue=raw_prologue,
            prologue=prologue,
            envelope=envelope,
            raw_directory=raw_directory,
            directory=directory,
            raw_index=raw_index,
            signatures=signatures,
            trailer=trailer,
        )

    @property
    def message(self) -> bytes:
        """The 148 bytes that are signed."""
        commit = self.envelope.commit if self.envelope else bytes(32)
        return signed_message(self.raw_prologue, commit, self.trailer.tail_digest)

    def unseal(self, identities: Sequence[Identity], grant: Grant | None = None) -> KeySchedule | None:
        """Finds the content key and lets it authenticate the envelope and the tail; None for a plain bundle.

        Raises:
            NoMatchError: none of the identities opens the bundle.
            EnvelopeError, PrologueError: it was changed.
        """
        if self.envelope is None:
            return None
        opener = self.envelope if grant is None else grant.envelope_for(self.message)
        schedule = opener.unwrap(identities, self.prologue.bundle_id)
        if grant is not None:
            grant.check_mac(schedule, self.raw_prologue)
        self.envelope.check_mac(schedule, self.raw_prologue)
        if not equal(schedule.tail_mac(self.message), self.trailer.tail_mac):
            raise PrologueError(AUTHENTICATION_FAILED)
        return schedule


def _check_bounds(prologue: Prologue, trailer: Trailer) -> None:
    if trailer.directory_offset < prologue.data_offset:
        raise PrologueError("the directory begins before the data")
    if not prologue.encrypted and any(trailer.tail_mac):
        raise PrologueError("a plain bundle has no tail mac")


def _read_envelope(source: ByteSource, prologue: Prologue) -> Envelope | None:
    if not prologue.encrypted:
        return None
    return Envelope.decode(read(source, PROLOGUE_SIZE, prologue.data_offset - PROLOGUE_SIZE))


def _check_gaps(source: ByteSource, data_offset: int, directory: Directory, directory_offset: int) -> None:
    """Alignment gaps are zero, or they would be a place to hide bytes from every digest."""
    end = data_offset
    for start, size in [*((blob.offset, blob.size_bytes) for blob in directory.blobs), (directory_offset, 0)]:
        if start > end and any(read(source, end, start - end)):
            raise DirectoryError("there are bytes hidden between the blobs")
        end = start + size
