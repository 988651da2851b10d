"""Key providers: where keys live and what may be done with them there."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["KeyProvider"]


@runtime_checkable
class KeyProvider(Protocol):
    """Serves key references such as `env:ACME_KEY`, by the capability words of its descriptor.

    * `load`: hands out key-file text (files, the environment);
    * `wrap`, `unwrap`: wraps content keys inside a KMS or HSM;
    * `sign`: signs inside a KMS or HSM.
    """

    def load(self, reference: str) -> str:
        """The key-file text that `reference` (without its scheme) names.

        Raises:
            sdkpack.errors.KeyFileError: there is none, or it is unsafe to use; the message never holds key material.
        """
        ...

    def wrap(self, reference: str, content_key: bytes, bundle_id: bytes) -> tuple[bytes, bytes]:
        """Key id (0 or 32 bytes) and the wrapped content key."""
        ...

    def unwrap(self, reference: str, wrapped: bytes, bundle_id: bytes) -> bytes:
        """The content key of 32 bytes."""
        ...

    def sign(self, reference: str, message: bytes) -> tuple[str, bytes, bytes]:
        """Algorithm, raw public key and signature."""
        ...
