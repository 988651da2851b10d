"""Loads the onnxruntime library, quietly: without its telemetry, which writes below HOME when it is imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["available_devices", "installed_build", "load_library", "provider_of"]

_SWITCH: Final = "ORT_DISABLE_TELEMETRY"
_SUFFIX: Final = "ExecutionProvider"


def installed_build() -> str | None:
    """Which onnxruntime is installed, told by its files and without loading it; None where there is none.

    Several distributions bring the module (CPU, GPU, vendors' own), so the libraries' names and sizes are told too.
    """
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    version = re.search(r'^__version__ = "([^"]+)"', (folder / "__init__.py").read_text("utf-8"), re.MULTILINE)
    libraries = sorted(path for path in (folder / "capi").glob("*.so*") if path.is_file())
    parts = [f"{path.name}:{path.stat().st_size}" for path in libraries]
    return " ".join(["onnxruntime", version[1] if version else "of unknown version", *parts])


def load_library() -> Any:
    """The `onnxruntime` module, its telemetry off.

    From version 1.32 on the library writes a device id and an event database below HOME at the moment it is imported,
    before any call could stop it; it reads this variable then. The variable is put back, so that nothing else changes.
    """
    if "onnxruntime" in sys.modules:
        library = sys.modules["onnxruntime"]
    else:
        before = os.environ.get(_SWITCH)
        os.environ[_SWITCH] = "1"
        try:
            library = importlib.import_module("onnxruntime")
        finally:
            if before is None:
                del os.environ[_SWITCH]
            else:
                os.environ[_SWITCH] = before
    # For a library that the host program had imported first: no event is sent from now on.
    library.disable_telemetry_events()
    return library


def available_devices(library: Any) -> dict[str, str]:
    """Device name to execution provider: `cpu` to `CPUExecutionProvider`."""
    return {name.removesuffix(_SUFFIX).lower(): name for name in library.get_available_providers()}


def provider_of(library: Any, device: str) -> str | None:
    """The execution provider that serves `device`, or None where this build has none."""
    return available_devices(library).get(device)
