"""Key providers: where keys live and what may be done with them there."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["KeyProvider"]


@runtime_checkable
class KeyProvider(Protocol):
    """Serves key references such as `env:ACME_KEY`, by the capability words of its descriptor.

    * `load`: hands out key-file text (files, the environment);
    * `wrap`, `unwrap`: wraps content keys inside a KMS or HSM;
    * `sign`: `public_key` and `sign`: signs inside a KMS or HSM.
    """

    def load(self, reference: str) -> str:
        """The key-file text that `reference` (without its scheme) names.

        Raises:
            sdkpack.errors.KeyFileError: there is none, or it is unsafe to use; the message never holds key material.
        """
        ...

    def wrap(self, reference: str, content_key: bytes, context: bytes) -> bytes:
        """The content key of 32 bytes, wrapped; `context` must be bound to it."""
        ...

    def unwrap(self, reference: str, wrapped: bytes, context: bytes) -> bytes:
        """The content key again; fails where `context` is another one."""
        ...

    def public_key(self, reference: str) -> tuple[str, bytes]:
        """Algorithm (`ed25519`, `ecdsa-p256-sha256`, `ml-dsa-65`) and raw public key of a key that signs."""
        ...

    def sign(self, reference: str, message: bytes) -> bytes:
        """The raw signature over `message`."""
        ...
