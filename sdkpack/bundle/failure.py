"""The one sentence for every cryptographic failure.

Which check failed would help an attacker who probes, and tells an honest user nothing: the bundle is not the one that
its publisher wrote, or was not meant for this key.
"""

from __future__ import annotations

from typing import Final

__all__ = ["AUTHENTICATION_FAILED"]

AUTHENTICATION_FAILED: Final = "authentication failed: the bundle was changed or damaged after it was written"
