"""The vision plugin's rows."""

from __future__ import annotations

from typing import Final

SDKPACK_API: Final = (1, 0)
