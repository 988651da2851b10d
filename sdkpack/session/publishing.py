"""Key references on the publisher's side: who signs, who shall be able to open, which product line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdkpack.errors import KeyFileError, UsageError
from sdkpack.session.keys import KeyReference, Plugins, load_keys, parted, provider_of

if TYPE_CHECKING:
    from sdkpack.crypto.keyfile import Key
    from sdkpack.crypto.recipients import Recipient
    from sdkpack.crypto.signature import Signer
    from sdkpack.plugin import KeyProvider

__all__ = ["line_key", "recipients", "signers"]


def signers(references: Iterable[KeyReference], registry: Plugins) -> tuple[Signer, ...]:
    """Who signs; a key provider that can `sign` keeps its key where it is.

    Raises:
        KeyFileError: a reference names no signing key.
    """
    from sdkpack.crypto.signature import SigningKey

    made: list[Signer] = []
    for reference in references:
        scheme, rest = parted(reference)
        provider = provider_of(scheme, registry)
        if "load" in provider.capabilities:
            keys = [key for key in load_keys(reference, registry) if isinstance(key, SigningKey)]
            if not keys:
                raise _wrong_key(reference, registry, "key that signs", "sdkpack keys new signing NAME")
            made += keys
        elif "sign" in provider.capabilities:
            alg, public_key = provider.instance.public_key(rest)
            made.append(_ProviderSigner(alg, public_key, provider.instance, rest))
        else:
            raise UsageError(f"the key provider of {scheme!r} cannot sign")
    return tuple(made)


def recipients(references: Iterable[KeyReference], registry: Plugins) -> tuple[Recipient, ...]:
    """Who shall be able to open a bundle; of a secret key the public part is used.

    Raises:
        KeyFileError: a reference names no key that bundles can be encrypted for.
    """
    from sdkpack.crypto.recipients import PluginRecipient

    made: list[Recipient] = []
    for reference in references:
        scheme, rest = parted(reference)
        provider = provider_of(scheme, registry)
        if "load" in provider.capabilities:
            keys = [found for key in load_keys(reference, registry) if (found := _recipient(key)) is not None]
            if not keys:
                hint = "sdkpack keys new recipient NAME"
                raise _wrong_key(reference, registry, "key that bundles are encrypted for", hint)
            made += keys
        elif "wrap" in provider.capabilities:
            made.append(PluginRecipient(provider.name, _wrap(provider.instance, rest)))
        else:
            raise UsageError(f"the key provider of {scheme!r} cannot wrap content keys")
    return tuple(made)


def line_key(reference: KeyReference, registry: Plugins) -> bytes:
    """The product line's secret, 32 bytes.

    Raises:
        KeyFileError: the reference names no line key.
    """
    from sdkpack.crypto.keys import LineKey

    for key in load_keys(reference, registry):
        if isinstance(key, LineKey):
            return key.secret
    raise _wrong_key(reference, registry, "line key", "sdkpack keys new line NAME")


@dataclass(frozen=True, slots=True)
class _ProviderSigner:
    alg: str
    public_key: bytes
    provider: KeyProvider
    reference: str

    def sign(self, message: bytes) -> bytes:
        return self.provider.sign(self.reference, message)


def _recipient(key: Key) -> Recipient | None:
    from sdkpack.crypto.recipients import HpkeIdentity, HpkeRecipient, Kek

    if isinstance(key, HpkeIdentity):
        return key.recipient
    return key if isinstance(key, HpkeRecipient | Kek) else None


def _wrap(provider: KeyProvider, reference: str) -> Callable[[bytes, bytes], tuple[tuple[Any, ...], bytes]]:
    return lambda content_key, context: ((), provider.wrap(reference, content_key, context))


def _wrong_key(reference: KeyReference, registry: Plugins, wanted: str, make: str) -> KeyFileError:
    have = ", ".join(sorted({type(key).__name__ for key in load_keys(reference, registry)}))
    return KeyFileError(f"{os.fspath(reference)} has no {wanted}, only {have}", hint=f"make one: {make}")
