"""What runs inside of toolchains' environments is for Python 3.8 and needs nothing but its library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sdkpack_job

FILES = sorted(Path(sdkpack_job.__file__).parent.glob("*.py"))
OWN = ("sdkpack", "sdkpack_job", "system")
# A runner's own, wherever it serves one: arrays are what it takes and gives.
FOR_ARRAYS = {"frames.py": {"numpy", "ml_dtypes"}}
# Of Python 3.8's standard library.
LIBRARY = {
    "_signal", "ctypes", "dataclasses", "errno", "importlib", "json", "logging", "mmap", "os", "pathlib", "re", "resource", "signal",
    "struct", "subprocess", "sys", "time", "types",
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_python_3_8(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        allowed = LIBRARY | set(OWN) | FOR_ARRAYS.get(file.name, set())
        assert all(name.partition(".")[0] in allowed for name in names), names


def test_the_launcher_imports_nothing_of_ours() -> None:
    """It runs before any limit stands, and without the folder that it lies in on its path."""
    for name in ("launch.py", "system.py"):
        text = (Path(sdkpack_job.__file__).parent / name).read_text(encoding="utf-8")
        assert "import sdkpack" not in text
        assert "from sdkpack" not in text
