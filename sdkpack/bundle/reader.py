"""Opening a bundle: `UntrustedBundle` knows its structure, `verify` turns it into a `VerifiedBundle` or raises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from sdkpack.bundle.blobs import BlobReader, check_stored
from sdkpack.bundle.directory import Directory
from sdkpack.bundle.envelope import Envelope
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.index import Index, check_index_length, open_index
from sdkpack.bundle.layout import (
    PROLOGUE_SIZE,
    TRAILER_SIZE,
    Prologue,
    Trailer,
    identity_of,
    signed_message,
    tail_digest,
)
from sdkpack.bundle.source import ByteSource, open_source, read
from sdkpack.bundle.trust import Signature, TrustedKey, TrustPolicy, decode_signatures
from sdkpack.bundle.verified import VerifiedBundle
from sdkpack.crypto.keys import KeySchedule, equal
from sdkpack.errors import DirectoryError, PrologueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from sdkpack.bundle.files import FileSystem
    from sdkpack.bundle.grant import Grant
    from sdkpack.crypto.recipients import Identity

__all__ = ["BundleInfo", "UntrustedBundle", "open_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What anyone can see without a key. Nothing of it is verified."""

    identity: str
    size_bytes: int
    format_minor: int
    encrypted: bool
    about: dict[str, Any]
    recipients: tuple[tuple[str, bytes], ...]
    """(type, key id or empty) of each stanza."""
    signatures: tuple[tuple[str, bytes], ...]
    """(algorithm, key id) of each signature."""
    blobs: tuple[tuple[bytes, int, int], ...]
    """(SHA-256, offset, length) of each stored blob."""


def open_bundle(
    file: str | Path | BinaryIO | bytes | ByteSource, *, files: FileSystem | None = None
) -> UntrustedBundle:
    """Opens a bundle and checks its structure: every byte has its place. No key is used and nothing is believed.

    Raises:
        FileError: it cannot be read.
        BundleError: it is malformed; the class names the part.
    """
    source = open_source(file, files)
    try:
        return UntrustedBundle(source)
    except BaseException:
        source.close()
        raise


class UntrustedBundle:
    """A bundle whose structure is sound. It hands out public facts, and no content: there is no method for that."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        size = source.size_bytes
        if size < PROLOGUE_SIZE + TRAILER_SIZE:
            raise PrologueError(f"not a bundle: {size} bytes are fewer than the smallest has")
        self._raw_prologue = read(source, 0, PROLOGUE_SIZE)
        self._prologue = Prologue.decode(self._raw_prologue)
        self._trailer = Trailer.decode(read(source, size - TRAILER_SIZE, TRAILER_SIZE), file_size=size)
        self._check_places()
        self._envelope = self._read_envelope()
        self._raw_directory = read(source, self._trailer.directory_offset, self._trailer.directory_length)
        self._directory = Directory.decode(
            self._raw_directory,
            data_offset=self._prologue.data_offset,
            directory_offset=self._trailer.directory_offset,
        )
        check_index_length(self._trailer.index_length, self._directory, encrypted=self._prologue.encrypted)
        self._check_gaps()
        self._raw_index = read(source, self._trailer.index_offset, self._trailer.index_length)
        if tail_digest(self._raw_directory, [self._raw_index]) != self._trailer.tail_digest:
            raise PrologueError("the trailer's digest does not fit the directory and the index")
        self._signatures = decode_signatures(
            read(source, self._trailer.signatures_offset, self._trailer.signatures_length)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a `VerifiedBundle` made from this one is closed with it."""
        self._source.close()

    @property
    def message(self) -> bytes:
        """The 148 bytes that are signed: prologue, commitment and tail digest under a label."""
        commit = self._envelope.commit if self._envelope else bytes(32)
        return signed_message(self._raw_prologue, commit, self._trailer.tail_digest)

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures in the file, as they are; nobody has checked them."""
        return self._signatures

    @property
    def info(self) -> BundleInfo:
        stanzas = self._envelope.stanzas if self._envelope else ()
        return BundleInfo(
            identity=identity_of(self.message),
            size_bytes=self._source.size_bytes,
            format_minor=self._prologue.minor,
            encrypted=self._prologue.encrypted,
            about=self._directory.about,
            recipients=tuple((stanza.type, stanza.key_id) for stanza in stanzas),
            signatures=tuple((item.alg, item.key_id) for item in self._signatures),
            blobs=tuple((blob.sha256, blob.offset, blob.size_bytes) for blob in self._directory.blobs),
        )

    def verify(
        self,
        *,
        policy: TrustPolicy,
        identities: Sequence[Identity] = (),
        grant: Grant | None = None,
        detached_signatures: Sequence[Signature] = (),
        check_blobs: bool = True,
        validate_manifest: Callable[[dict[str, Any]], object] | None = None,
        now: datetime | None = None,
    ) -> VerifiedBundle:
        """Verifies in the order that FORMAT.md section 9 lists; what comes later is not touched when a step fails.

        Args:
            policy: whose signatures are believed.
            identities: keys that may open an encrypted bundle.
            grant: a detached envelope that wraps the content key for one of the identities.
            detached_signatures: signatures beside those in the file.
            check_blobs: checks every blob now. Else each is checked when it is read, every time.
            validate_manifest: checks the manifest further and raises; its result is kept as `document`.
            now: the moment at which the policy's keys must be valid.

        Raises:
            NoMatchError: none of the identities opens the bundle.
            TrustError: the policy is not met.
            BundleError: the bundle was changed; the class names the part where it showed.
        """
        schedule = self._unseal(identities, grant)
        trusted = policy.check(self.message, (*self._signatures, *detached_signatures), now or datetime.now(UTC))
        raw_index = open_index(self._raw_index, schedule) if schedule else self._raw_index
        index = Index.decode(raw_index, self._directory, encrypted=schedule is not None)
        policy.check_sequence(index.manifest)
        document = validate_manifest(index.manifest) if validate_manifest else None
        blobs = BlobReader(
            self._source,
            self._directory,
            index,
            encrypted=schedule is not None,
            digests=schedule is None or policy.requires_signature,
        )
        return VerifiedBundle(
            blobs=blobs,
            identity=identity_of(self.message),
            signed_by=trusted,
            document=document,
            check_now=check_blobs,
        )

    def verify_public(
        self,
        *,
        policy: TrustPolicy,
        detached_signatures: Sequence[Signature] = (),
        now: datetime | None = None,
    ) -> tuple[TrustedKey, ...]:
        """Verifies signatures, minimum sequence and every stored blob without a content key.

        Returns:
            The trusted keys that signed.

        Raises:
            BundleError: as for `verify`.
        """
        trusted = policy.check(self.message, (*self._signatures, *detached_signatures), now or datetime.now(UTC))
        policy.check_sequence(self._directory.about)
        check_stored(self._source, self._directory)
        return trusted

    def _unseal(self, identities: Sequence[Identity], grant: Grant | None) -> KeySchedule | None:
        """Finds the content key and lets it authenticate the envelope and the tail."""
        if self._envelope is None:
            if any(self._trailer.tail_mac):
                raise PrologueError("a plain bundle has no tail mac")
            return None
        opener = self._envelope if grant is None else grant.envelope_for(self.message)
        schedule = opener.unwrap(identities, self._prologue.bundle_id)
        if grant is not None:
            grant.check_mac(schedule, self._raw_prologue)
        self._envelope.check_mac(schedule, self._raw_prologue)
        if not equal(schedule.tail_mac(self.message), self._trailer.tail_mac):
            raise PrologueError(AUTHENTICATION_FAILED)
        return schedule

    def _check_places(self) -> None:
        if self._trailer.directory_offset < self._prologue.data_offset:
            raise PrologueError("the directory begins before the data")

    def _read_envelope(self) -> Envelope | None:
        if not self._prologue.encrypted:
            return None
        return Envelope.decode(read(self._source, PROLOGUE_SIZE, self._prologue.data_offset - PROLOGUE_SIZE))

    def _check_gaps(self) -> None:
        """Alignment gaps are zero, or they would be a place to hide bytes from every digest."""
        end = self._prologue.data_offset
        for start, size in [(blob.offset, blob.size_bytes) for blob in self._directory.blobs] + [
            (self._trailer.directory_offset, 0)
        ]:
            if start > end and any(read(self._source, end, start - end)):
                raise DirectoryError("there are bytes hidden between the blobs")
            end = start + size
