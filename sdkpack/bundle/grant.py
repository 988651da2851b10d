"""A grant: a detached envelope, so that a new customer needs a kilobyte and not the bundle again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sdkpack.bundle import canonical
from sdkpack.bundle.envelope import Envelope, mac_input, make_body, parse_body
from sdkpack.bundle.failure import AUTHENTICATION_FAILED
from sdkpack.bundle.layout import MAX_DATA_OFFSET, identity_of
from sdkpack.crypto.keys import KeySchedule, equal
from sdkpack.errors import EnvelopeError, LimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sdkpack.crypto.recipients import Stanza

__all__ = ["Grant"]

MAGIC: Final = b"sdkpack/1 grant\n"
_FIELDS: Final = {"body": bytes, "identity": bytes, "mac": bytes, "v": int}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A parsed grant; nothing of it is authenticated until `check_mac` returns."""

    identity: bytes
    """SHA-256 that names the bundle."""
    body: bytes
    mac: bytes

    @classmethod
    def seal(cls, stanzas: Sequence[Stanza], schedule: KeySchedule, *, message: bytes, prologue: bytes) -> Grant:
        body = make_body(stanzas, schedule.commit)
        identity = _identity(message)
        return cls(identity=identity, body=body, mac=schedule.envelope_mac(_mac_input(identity, prologue, body)))

    def encode(self) -> bytes:
        return MAGIC + canonical.encode({"body": self.body, "identity": self.identity, "mac": self.mac, "v": 1})

    @classmethod
    def decode(cls, data: bytes) -> Grant:
        """Reads a grant file.

        Raises:
            EnvelopeError: malformed.
            LimitError: too long.
        """
        if len(data) > MAX_DATA_OFFSET:
            raise LimitError(f"a grant of {len(data)} bytes, expected at most {MAX_DATA_OFFSET}")
        if not data.startswith(MAGIC):
            raise EnvelopeError("not a grant: the file does not begin with 'sdkpack/1 grant'")
        document: Any = canonical.decode(data[len(MAGIC) :], error=EnvelopeError, what="grant")
        if type(document) is not dict or {key: type(value) for key, value in document.items()} != _FIELDS:
            raise EnvelopeError("the grant is not a map of body, identity, mac and v")
        if document["v"] != 1 or len(document["identity"]) != 32 or len(document["mac"]) != 32:
            raise EnvelopeError("the grant's version, identity or mac is out of range")
        parse_body(document["body"])
        return cls(identity=document["identity"], body=document["body"], mac=document["mac"])

    def envelope_for(self, message: bytes) -> Envelope:
        """Returns the grant's stanzas, if it is for the bundle with this message.

        Raises:
            EnvelopeError: it is for another bundle.
        """
        if not equal(self.identity, _identity(message)):
            raise EnvelopeError("the grant is for another bundle", hint="ask the publisher for this bundle's grant")
        commit, stanzas = parse_body(self.body)
        return Envelope(body=self.body, commit=commit, stanzas=stanzas, mac=self.mac)

    def check_mac(self, schedule: KeySchedule, prologue: bytes) -> None:
        """Raises EnvelopeError where the grant was not made by somebody with the content key."""
        expected = schedule.envelope_mac(_mac_input(self.identity, prologue, self.body))
        if not equal(expected, self.mac):
            raise EnvelopeError(AUTHENTICATION_FAILED)


def _identity(message: bytes) -> bytes:
    return bytes.fromhex(identity_of(message).removeprefix("sha256:"))


def _mac_input(identity: bytes, prologue: bytes, body: bytes) -> bytes:
    # An envelope's input begins with the magic's 0x89: no grant's mac is an envelope's, nor the other way round.
    return b"sdkpack/1 grant\0" + identity + mac_input(prologue, body)
