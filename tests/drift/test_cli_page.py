"""docs/cli.md says what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_commands_print(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("cli_page", ROOT / "tools/cli_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert (ROOT / "docs/cli.md").read_text("utf-8") == module.page(), "run: python tools/cli_page.py > docs/cli.md"
