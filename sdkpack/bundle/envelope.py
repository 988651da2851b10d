"""The envelope: the content key, wrapped for each recipient, authenticated by the content key itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.bundle import canonical
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.layout import ENVELOPE_OVERHEAD, MAX_DATA_OFFSET, PAGE, PROLOGUE_SIZE, align
from sdkpack.crypto.keys import SUITE, KeySchedule, equal
from sdkpack.crypto.recipients import Identity, Randomness, Recipient, Stanza, hpke, kek, plugin, scrypt
from sdkpack.crypto.recipients.base import KEY_ID_SIZE
from sdkpack.errors import EnvelopeError, FormatVersionError, LimitError, NoMatchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_STANZAS", "Envelope", "check_recipients", "data_offset_for", "make_body", "wrap_all"]

MAX_STANZAS: Final = 256
MAX_STANZA_SIZE: Final = 4096  # with 256 stanzas, an envelope stays within 1 MiB

_WRAPPED_SIZES: Final = {scrypt.TYPE: scrypt.WRAPPED_SIZE, kek.TYPE: kek.WRAPPED_SIZE} | {
    name: kem.wrapped_size for name, kem in hpke.KEMS.items()
}


def check_recipients(types: Sequence[str]) -> str:
    """Returns what is wrong with a set of recipient types, or nothing.

    A passphrase stands alone, as in age: who can guess it could otherwise pose as the publisher to the others. Beside
    a hybrid recipient only hybrids and symmetric keys may stand: a quantum computer opens what the weakest one wraps.
    """
    if not types:
        return "there is no recipient"
    if scrypt.TYPE in types and len(types) > 1:
        return "a passphrase must be the only recipient"
    if hpke.HYBRID in types and not set(types) <= {hpke.HYBRID, kek.TYPE}:
        return "beside a post-quantum recipient only post-quantum ones and keks are allowed"
    return ""


def wrap_all(recipients: Sequence[Recipient], schedule: KeySchedule, randomness: Randomness) -> tuple[Stanza, ...]:
    """Wraps the content key for everyone.

    Raises:
        UsageError: no recipient, too many, or a mixture that is not allowed.
    """
    problem = check_recipients([recipient.type for recipient in recipients])
    if problem or len(recipients) > MAX_STANZAS:
        raise UsageError(f"cannot encrypt: {problem or f'more than {MAX_STANZAS} recipients'}")
    return tuple(recipient.wrap(schedule.cek, schedule.bundle_id, randomness) for recipient in recipients)


def make_body(stanzas: Sequence[Stanza], commit: bytes) -> bytes:
    return canonical.encode([SUITE, commit, [stanza.as_row() for stanza in stanzas]])


def data_offset_for(body_size: int) -> int:
    """Returns the smallest data offset that has room for an envelope's body.

    Raises:
        LimitError: the recipients do not fit.
    """
    offset = max(PAGE, align(body_size + ENVELOPE_OVERHEAD, PAGE))
    if offset > MAX_DATA_OFFSET:
        raise LimitError(
            f"the recipients take {body_size} bytes, expected at most {MAX_DATA_OFFSET - ENVELOPE_OVERHEAD}"
        )
    return offset


def mac_input(prologue: bytes, body: bytes) -> bytes:
    return prologue + len(body).to_bytes(4, "little") + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A parsed envelope; nothing of it is authenticated until `unseal` returns."""

    body: bytes
    commit: bytes
    stanzas: tuple[Stanza, ...]
    mac: bytes

    @classmethod
    def seal(cls, stanzas: Sequence[Stanza], schedule: KeySchedule, prologue: bytes) -> Envelope:
        body = make_body(stanzas, schedule.commit)
        mac = schedule.envelope_mac(mac_input(prologue, body))
        return cls(body=body, commit=schedule.commit, stanzas=tuple(stanzas), mac=mac)

    def encode(self, data_offset: int) -> bytes:
        """Returns the bytes from the prologue's end to `data_offset`."""
        used = len(self.body).to_bytes(4, "little") + self.body + self.mac
        if len(used) > data_offset - PROLOGUE_SIZE:
            room = data_offset - ENVELOPE_OVERHEAD
            raise LimitError(
                f"the recipients take {len(self.body)} bytes, the bundle has room for {room}",
                hint="give the new recipient a grant file instead, or pack the bundle again",
            )
        return used.ljust(data_offset - PROLOGUE_SIZE, b"\0")

    @classmethod
    def decode(cls, region: bytes) -> Envelope:
        """Reads the region between prologue and data.

        Raises:
            EnvelopeError: malformed, or bytes after the mac are not zero.
            FormatVersionError: an unknown suite.
        """
        length = int.from_bytes(region[:4], "little")
        if length + 36 > len(region):
            raise EnvelopeError(f"the envelope claims {length} bytes, there is room for {len(region) - 36}")
        body, mac = region[4 : 4 + length], region[4 + length : 36 + length]
        if region.count(0, 36 + length) != len(region) - 36 - length:
            raise EnvelopeError("there are bytes hidden after the envelope")
        commit, stanzas = parse_body(body)
        return cls(body=body, commit=commit, stanzas=stanzas, mac=mac)

    def unwrap(self, identities: Sequence[Identity], bundle_id: bytes) -> KeySchedule:
        """Finds the content key: the first stanza that one of the identities opens, in stored order.

        Raises:
            NoMatchError: none opens.
            EnvelopeError: a stanza opens to a key that the file is not committed to.
        """
        for stanza in self.stanzas:
            for identity in identities:
                cek = identity.unwrap(stanza, bundle_id)
                if cek is None:
                    continue
                schedule = KeySchedule(cek, bundle_id)
                # Trying on would let a file show two recipients two contents, and test passwords in bulk
                # (Len, Grubbs, Ristenpart 2021, partitioning oracles).
                if not equal(schedule.commit, self.commit):
                    raise EnvelopeError(AUTHENTICATION_FAILED)
                return schedule
        raise NoMatchError("none of the given keys opens this bundle", hint="see who can open it: sdkpack inspect FILE")

    def check_mac(self, schedule: KeySchedule, prologue: bytes) -> None:
        """Raises EnvelopeError where recipients were added, removed or edited by somebody without the content key."""
        if not equal(schedule.commit, self.commit) or not equal(
            schedule.envelope_mac(mac_input(prologue, self.body)), self.mac
        ):
            raise EnvelopeError(AUTHENTICATION_FAILED)


def parse_body(body: bytes) -> tuple[bytes, tuple[Stanza, ...]]:
    """Returns commitment and stanzas of an envelope's body, or raises EnvelopeError."""
    document = canonical.decode(body, error=EnvelopeError, what="envelope")
    if type(document) is not list or [type(item) for item in document] != [int, bytes, list]:
        raise EnvelopeError("the envelope is not [suite, commit, stanzas]")
    suite, commit, rows = document
    if suite != SUITE:
        raise FormatVersionError(f"unknown cipher suite {suite}", hint="update sdkpack")
    if len(commit) != 32 or not 1 <= len(rows) <= MAX_STANZAS:
        raise EnvelopeError("the envelope's commitment or number of stanzas is out of range")
    stanzas = tuple(_stanza(row) for row in rows)
    problem = check_recipients([stanza.type for stanza in stanzas])
    if problem:
        raise EnvelopeError(problem)
    return commit, stanzas


def _stanza(row: Any) -> Stanza:
    if type(row) is not list or [type(item) for item in row] != [str, bytes, list, bytes]:
        raise EnvelopeError("a stanza is not [type, key id, params, wrapped]")
    if len(canonical.encode(row)) > MAX_STANZA_SIZE:
        raise LimitError(f"a stanza is longer than {MAX_STANZA_SIZE} bytes")
    kind, key_id, params, wrapped = row
    if len(key_id) not in (0, KEY_ID_SIZE):
        raise EnvelopeError(f"a key id has {len(key_id)} bytes, expected 0 or {KEY_ID_SIZE}")
    if kind.startswith(plugin.PREFIX) and not plugin.PLUGIN_TYPE.fullmatch(kind):
        raise EnvelopeError("a stanza names a malformed key provider")
    # A fixed length for each type: a wrapped key with room to spare is room to play in.
    if kind in _WRAPPED_SIZES and len(wrapped) != _WRAPPED_SIZES[kind]:
        raise EnvelopeError(f"a wrapped key of type {kind} has {len(wrapped)} bytes, expected {_WRAPPED_SIZES[kind]}")
    if kind == scrypt.TYPE:
        _check_scrypt(key_id, params)
    elif kind in _WRAPPED_SIZES and params:
        raise EnvelopeError(f"a stanza of type {kind} has parameters, expected none")
    return Stanza(type=kind, key_id=key_id, params=tuple(params), wrapped=wrapped)


def _check_scrypt(key_id: bytes, params: list[Any]) -> None:
    if key_id or [type(item) for item in params] != [bytes, int] or len(params[0]) != 16:
        raise EnvelopeError("a passphrase stanza is not [salt, cost]")
    if not 1 <= params[1] <= scrypt.HARD_CAP_LOG2N:
        raise EnvelopeError(f"passphrase cost 2^{params[1]}, expected at most 2^{scrypt.HARD_CAP_LOG2N}")
