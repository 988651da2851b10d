"""Whom to believe: the policy that a bundle's signatures are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.bundle import canonical
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.layout import MAX_SIGNATURES_SIZE
from sdkpack.crypto.signature import InvalidSignature, VerifyingKey
from sdkpack.errors import LimitError, SignatureError, TrustError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["Signature", "TrustPolicy", "TrustedKey", "decode_signatures", "encode_signatures"]


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """One signature as a bundle carries it; whether it is right is for `TrustPolicy.check` to say."""

    alg: str
    key_id: bytes
    signature: bytes


def encode_signatures(signatures: Sequence[Signature]) -> bytes:
    """Returns the signatures' part, or the content of a detached `.sig` file."""
    data = canonical.encode([[item.alg, item.key_id, item.signature] for item in sorted(signatures)])
    if len(data) > MAX_SIGNATURES_SIZE:
        raise LimitError(f"the signatures take {len(data)} bytes, expected at most {MAX_SIGNATURES_SIZE}")
    return data


def decode_signatures(data: bytes) -> tuple[Signature, ...]:
    """Reads the signatures' part or a detached file.

    Raises:
        SignatureError: malformed, or not strictly ascending.
        LimitError: too long.
    """
    if len(data) > MAX_SIGNATURES_SIZE:
        raise LimitError(f"the signatures take {len(data)} bytes, expected at most {MAX_SIGNATURES_SIZE}")
    rows = canonical.decode(data, error=SignatureError, what="signatures' part")
    if type(rows) is not list:
        raise SignatureError("the signatures' part is no array")
    signatures = tuple(_row(row) for row in rows)
    names = [(item.alg, item.key_id) for item in signatures]
    if names != sorted(set(names)):
        raise SignatureError("signatures are not in ascending order, one for each key")
    return signatures


def _row(row: Any) -> Signature:
    if type(row) is not list or [type(item) for item in row] != [str, bytes, bytes] or len(row[1]) != 32:
        raise SignatureError("a signature is not [algorithm, key id, signature]")
    return Signature(*row)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key one believes, and from when until when."""

    key: VerifyingKey
    name: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None

    def valid_at(self, moment: datetime) -> bool:
        return (self.not_before is None or self.not_before <= moment) and (
            self.not_after is None or moment <= self.not_after
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPolicy:
    """What a bundle must show to be opened.

    Args:
        keys: the keys one believes.
        threshold: how many different ones of them must have signed.
        minimum_sequence: the oldest release still accepted: stops a rollback to one with known faults.
        allow_unsigned: opens bundles that no trusted key signed. A wrong signature by a trusted key still fails.
    """

    keys: tuple[TrustedKey, ...] = ()
    threshold: int = 1
    minimum_sequence: int | None = None
    allow_unsigned: bool = False

    def __post_init__(self) -> None:
        if not self.keys and not self.allow_unsigned:
            raise UsageError(
                "a trust policy needs a key or the explicit consent to unsigned bundles",
                hint="give --trust KEY_OR_FILE, or --allow-unsigned",
            )
        distinct = {item.key for item in self.keys}
        if len(distinct) != len(self.keys):
            raise UsageError("a trust policy names a key twice")
        if self.threshold < 1 or (self.keys and self.threshold > len(self.keys)):
            raise UsageError(f"threshold {self.threshold} cannot be met by {len(self.keys)} keys")

    @classmethod
    def of(cls, *keys: VerifyingKey) -> TrustPolicy:
        """The policy that wants a signature by one of these keys."""
        return cls(keys=tuple(TrustedKey(key=key) for key in keys))

    @property
    def requires_signature(self) -> bool:
        return not self.allow_unsigned

    def check(self, message: bytes, signatures: Sequence[Signature], now: datetime) -> tuple[TrustedKey, ...]:
        """Returns the trusted keys that signed the message.

        Raises:
            SignatureError: a signature that names a trusted key is wrong.
            TrustError: too few trusted keys signed.
        """
        by_id = {(item.key.alg, item.key.key_id): item for item in self.keys}
        signed: dict[VerifyingKey, TrustedKey] = {}
        expired = []
        for signature in signatures:
            trusted = by_id.get((signature.alg, signature.key_id))
            if trusted is None:
                continue
            try:
                trusted.key.verify(message, signature.signature)
            except (InvalidSignature, ValueError):
                raise SignatureError(AUTHENTICATION_FAILED) from None
            if trusted.valid_at(now):
                signed[trusted.key] = trusted
            else:
                expired.append(trusted.name or trusted.key.key_id.hex()[:16])
        if self.requires_signature and len(signed) < self.threshold:
            raise TrustError(_shortage(len(signed), self.threshold, len(signatures), expired), hint=_HINT)
        return tuple(signed.values())

    def check_sequence(self, manifest: dict[str, Any]) -> None:
        """Raises TrustError where the bundle is older than the policy allows."""
        if self.minimum_sequence is None:
            return
        sequence = manifest.get("sequence")
        if type(sequence) is not int or sequence < self.minimum_sequence:
            raise TrustError(f"release {sequence!r} is older than the oldest accepted one, {self.minimum_sequence}")


_HINT: Final = "see who signed it: sdkpack inspect FILE"


def _shortage(count: int, threshold: int, present: int, expired: list[str]) -> str:
    if expired:
        return f"signed by a key that is not valid now: {', '.join(expired)}"
    if not present:
        return "the bundle is not signed"
    return f"{count} trusted keys signed the bundle, expected {threshold} (it carries {present} signatures)"
