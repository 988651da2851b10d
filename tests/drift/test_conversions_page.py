"""docs/conversions.md names what its tool converts; its figures need models that are not part of the repository."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_a_row_for_each_case() -> None:
    spec = importlib.util.spec_from_file_location("conversions_page", ROOT / "tools/conversions_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    page = (ROOT / "docs/conversions.md").read_text(encoding="utf-8")
    assert page.startswith(module.HEAD), "run: python tools/conversions_page.py > docs/conversions.md"
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert rows == [case.source for case in module.CASES]
