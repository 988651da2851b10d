"""What every command loads stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "numpy", "onnx", "click", "cryptography", "msgpack")
LIGHT = ("sdkpack", "sdkpack.plugin", "sdkpack.errors", "sdkpack.types", "sdkpack.compare", "sdkpack.host.registry")


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
