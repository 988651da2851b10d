"""Opening a bundle: `UntrustedBundle` knows its structure, `verify` turns it into a `VerifiedBundle` or raises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from sdkpack.bundle.blobs import BlobReader, check_stored
from sdkpack.bundle.index import Index, open_index
from sdkpack.bundle.layout import identity_of
from sdkpack.bundle.source import ByteSource, open_source
from sdkpack.bundle.structure import Structure
from sdkpack.bundle.verified import VerifiedBundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from sdkpack.bundle.files import FileSystem
    from sdkpack.bundle.grant import Grant
    from sdkpack.bundle.trust import Signature, TrustedKey, TrustPolicy
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

    Args:
        file: a path, an open file, or the bundle's bytes.
        files: the file system.

    Raises:
        FileError: it cannot be read.
        BundleError: it is malformed; the class names the part.
    """
    source = open_source(file, files)
    try:
        return UntrustedBundle(Structure.read(source))
    except BaseException:
        source.close()
        raise


class UntrustedBundle:
    """A bundle whose structure is sound. It hands out public facts, and no content: there is no method for that."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a `VerifiedBundle` made from this one is closed with it."""
        self.structure.source.close()

    @property
    def message(self) -> bytes:
        """The 148 bytes that are signed: prologue, commitment and tail digest under a label."""
        return self.structure.message

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures in the file, as they are; nobody has checked them."""
        return self.structure.signatures

    @property
    def info(self) -> BundleInfo:
        structure = self.structure
        stanzas = structure.envelope.stanzas if structure.envelope else ()
        return BundleInfo(
            identity=identity_of(structure.message),
            size_bytes=structure.source.size_bytes,
            format_minor=structure.prologue.minor,
            encrypted=structure.prologue.encrypted,
            about=structure.directory.about,
            recipients=tuple((stanza.type, stanza.key_id) for stanza in stanzas),
            signatures=tuple((item.alg, item.key_id) for item in structure.signatures),
            blobs=tuple((blob.sha256, blob.offset, blob.size_bytes) for blob in structure.directory.blobs),
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
        """Verifies in the order of FORMAT.md, "Reading"; when a step fails, what comes later is not touched.

        Args:
            policy: whose signatures are believed.
            identities: keys that may open an encrypted bundle.
            grant: a detached envelope that wraps the content key for one of the identities.
            detached_signatures: signatures beside those in the file.
            check_blobs: checks every blob now. Either way each is checked again whenever it is read.
            validate_manifest: checks the manifest further and raises; its result is kept as `document`.
            now: the moment at which the policy's keys must be valid; by default the present.

        Raises:
            NoMatchError: none of the identities opens the bundle.
            TrustError: the policy is not met.
            BundleError: the bundle was changed; the class names the part where it showed.
        """
        structure = self.structure
        schedule = structure.unseal(identities, grant)
        trusted = self._check_signatures(policy, detached_signatures, now)
        raw_index = open_index(structure.raw_index, schedule) if schedule else structure.raw_index
        index = Index.decode(raw_index, structure.directory, encrypted=schedule is not None)
        policy.check_sequence(index.manifest)
        document = validate_manifest(index.manifest) if validate_manifest else None
        blobs = BlobReader(
            structure.source,
            structure.directory,
            index,
            encrypted=schedule is not None,
            digests=schedule is None or policy.requires_signature,
        )
        return VerifiedBundle(
            blobs=blobs,
            identity=identity_of(structure.message),
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
        trusted = self._check_signatures(policy, detached_signatures, now)
        policy.check_sequence(self.structure.directory.about)
        check_stored(self.structure.source, self.structure.directory)
        return trusted

    def _check_signatures(
        self, policy: TrustPolicy, detached: Sequence[Signature], now: datetime | None
    ) -> tuple[TrustedKey, ...]:
        return policy.check(self.message, (*self.signatures, *detached), now or datetime.now(UTC))
