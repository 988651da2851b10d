"""A new plugin conforms before its author wrote a line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sdkpack.errors import OutputError, UsageError
from sdkpack.testing.scaffold import KINDS, write_scaffold
from tests.integration.installing import environment_with, install_copy

MOST_LINES = 120


@pytest.mark.parametrize("kind", KINDS)
def test_from_scaffold_to_green_in_one_command_each(kind: str, tmp_path: Path) -> None:
    run = "from sdkpack.cli.main import main; main()"
    project = tmp_path / "project"
    made = subprocess.run(
        [sys.executable, "-c", run, "plugins", "new", kind, "--name", "acme.fresh_one", "-o", str(project)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    lines = [line for path in (project / "src").rglob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) <= MOST_LINES, "a working backend in so many lines"
    readme = (project / "README.md").read_text()
    assert ("@" not in readme and "fill in" in readme.lower()) or "make it yours" in readme
    report = tmp_path / "report.html"
    checked = subprocess.run(
        [sys.executable, "-c", run, "plugins", "check", "acme.fresh_one", "--tests", str(project / "tests"),
         "-o", str(report)],
        env=environment_with(install_copy(project, tmp_path)), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "acme.fresh_one passed" in checked.stdout
    assert not re.search(r"skipped (numbers|what it costs|results compute|modified)", checked.stdout), checked.stdout
    page = report.read_text()
    assert '<h1>acme.fresh_one <span class="passed">passed</span></h1>' in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("name", ["acme", "Acme.npu", "acme.", "acme/npu", "../acme.npu", "acme.1", "acme..npu", ""])
def test_names_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"VENDOR\.NAME"):
        write_scaffold("runtime", name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_scaffold("runtime", "acme.npu2", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_there_is_no_template_for_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected runtime, operator, .* or key-provider"):
        write_scaffold("hook", "acme.x", tmp_path)


def test_the_command_offers_every_template() -> None:
    from sdkpack.cli import plugin_check, plugin_new

    assert plugin_new._KINDS == plugin_check._KINDS == KINDS
