"""Who can open a bundle: one file per way to wrap its content key.

`base` has the stanza and the two protocols; `scrypt`, `kek`, `hpke` and `plugin` implement them.
"""

from __future__ import annotations

from sdkpack.crypto.recipients.base import Identity, Randomness, Recipient, Stanza
from sdkpack.crypto.recipients.hpke import HpkeIdentity, HpkeRecipient
from sdkpack.crypto.recipients.kek import Kek
from sdkpack.crypto.recipients.plugin import PluginIdentity, PluginRecipient
from sdkpack.crypto.recipients.scrypt import PassphraseIdentity, PassphraseRecipient

__all__ = [
    "HpkeIdentity",
    "HpkeRecipient",
    "Identity",
    "Kek",
    "PassphraseIdentity",
    "PassphraseRecipient",
    "PluginIdentity",
    "PluginRecipient",
    "Randomness",
    "Recipient",
    "Stanza",
]
