"""The stanza, and what a recipient (wraps) and an identity (unwraps) must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["KEY_ID_SIZE", "Identity", "Randomness", "Recipient", "Stanza"]

KEY_ID_SIZE: Final = 32

Randomness = Callable[[int], bytes]
"""Returns n random bytes: `os.urandom`, or a fixed sequence where vectors are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """A content key wrapped for one recipient, as the envelope stores it."""

    type: str
    key_id: bytes
    """32 bytes that name the key, or none: anonymous, every key is tried."""
    params: tuple[Any, ...]
    wrapped: bytes

    def as_row(self) -> list[Any]:
        return [self.type, self.key_id, list(self.params), self.wrapped]


class Recipient(Protocol):
    """Somebody who shall be able to open the bundle."""

    @property
    def type(self) -> str: ...

    def wrap(self, cek: bytes, bundle_id: bytes, randomness: Randomness) -> Stanza:
        """Wraps the content key for this recipient."""
        ...


class Identity(Protocol):
    """A key that may open a bundle."""

    def unwrap(self, stanza: Stanza, bundle_id: bytes) -> bytes | None:
        """Returns the content key, or None where the stanza is not for this key.

        The caller compares the result with the commitment: an answer is a claim, not yet the key.
        """
        ...
