"""The licence file that the toolchain wants; a real vendor's would be a server or a dongle."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ACME_NPU2_LICENCE"
_FIRST_LINE = "acme-npu2 licence"


def problem() -> str:
    """Why there is no licence; empty where there is one."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return f"a licence: the variable {VARIABLE} is not set"
    try:
        first = Path(name).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        return f"a licence: {name} cannot be read: {error}"
    return "" if first == _FIRST_LINE else f"a licence: {name} is none"
