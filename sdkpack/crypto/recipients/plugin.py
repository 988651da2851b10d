"""Recipients whose key lives elsewhere (KMS, PKCS#11, Vault), reached through injected functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sdkpack.crypto.keys import CEK_SIZE, label
from sdkpack.crypto.recipients.base import Randomness, Stanza

__all__ = ["PLUGIN_TYPE", "PREFIX", "PluginIdentity", "PluginRecipient", "Unwrap", "Wrap"]

PREFIX: Final = "plugin:"
PLUGIN_TYPE: Final = re.compile(r"plugin:[a-z0-9][a-z0-9._-]{0,63}")

Wrap = Callable[[bytes, bytes], tuple[Sequence[Any], bytes]]
"""(content key, context) -> (params, wrapped). The context is to be authenticated by the service (AAD)."""
Unwrap = Callable[[Sequence[Any], bytes, bytes], bytes | None]
"""(params, wrapped, context) -> content key, or None where it is not this key's."""


def _context(bundle_id: bytes) -> bytes:
    return label("plugin") + bundle_id


@dataclass(frozen=True, slots=True)
class PluginRecipient:
    """A key behind a key provider called `name`."""

    name: str
    wrap_key: Wrap = field(repr=False)
    key_id: bytes = b""

    def __post_init__(self) -> None:
        if not PLUGIN_TYPE.fullmatch(self.type):
            raise ValueError(f"not a key provider's name: {self.name!r}")

    @property
    def type(self) -> str:
        return PREFIX + self.name

    def wrap(self, cek: bytes, bundle_id: bytes, randomness: Randomness) -> Stanza:
        del randomness
        params, wrapped = self.wrap_key(cek, _context(bundle_id))
        return Stanza(type=self.type, key_id=self.key_id, params=tuple(params), wrapped=wrapped)


@dataclass(frozen=True, slots=True)
class PluginIdentity:
    """The unwrapping side of a key provider called `name`."""

    name: str
    unwrap_key: Unwrap = field(repr=False)
    key_id: bytes = b""

    def unwrap(self, stanza: Stanza, bundle_id: bytes) -> bytes | None:
        if stanza.type != PREFIX + self.name or (stanza.key_id and self.key_id and stanza.key_id != self.key_id):
            return None
        cek = self.unwrap_key(stanza.params, stanza.wrapped, _context(bundle_id))
        return cek if cek is not None and len(cek) == CEK_SIZE else None
