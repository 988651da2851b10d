"""What sdkpack itself brings, through the same hooks as everybody."""

from __future__ import annotations

from typing import Final

SDKPACK_API: Final = (1, 0)
