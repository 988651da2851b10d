"""Every kind of plugin has a page, whose plugin works and conforms as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sdkpack.host.loading import _HOOKS
from sdkpack.testing.scaffold import KINDS as SCAFFOLDS
from tests.integration.installing import environment_with

PAGES = Path(__file__).parent.parent.parent / "docs" / "plugins"
KINDS = {hook.removeprefix("sdkpack_").removesuffix("s").replace("_", "-"): hook for hook in _HOOKS}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_hook_has_a_page_and_a_template() -> None:
    assert {kind for kind in KINDS if (PAGES / f"{kind}.md").exists()} == set(KINDS)
    assert set(SCAFFOLDS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_plugin_of_the_page_conforms(kind: str, tmp_path: Path) -> None:
    plugin, proof = BLOCK.findall((PAGES / f"{kind}.md").read_text(encoding="utf-8"))
    assert f"def {KINDS[kind]}()" in plugin
    site = tmp_path / "site"
    facts = site / "acme_page-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "acme_page.py").write_text(plugin)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-page\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[sdkpack.plugins.v1]\npage = acme_page\n")
    test = tmp_path / "test_page.py"
    test.write_text(proof)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)],
        env=environment_with(site), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


def test_the_classes_are_told_as_the_code_tells_them() -> None:
    from sdkpack.testing.coverage import OUTCOMES

    page = (PAGES / "conformance.md").read_text(encoding="utf-8").partition("## Operator coverage")[2]
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \|$", page, re.MULTILINE)
    assert {name for name, _ in rows} - {"class"} == set(OUTCOMES)


def test_the_page_names_every_conformance_class() -> None:
    import sdkpack.testing

    page = (PAGES / "conformance.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in page for name in sdkpack.testing.__all__)
