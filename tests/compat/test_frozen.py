"""Plugins frozen at an API version run for as long as that API's major lives."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.installing import environment_with, install_copy

HERE = Path(__file__).parent
FROZEN = {
    # A change here is a change of what vendors wrote: it must not be made. New API versions get a plugin of their own.
    "frozen-1.0/src/frozen_1_0/plugin.py": "996f022d8bcf3efe080ef9adc1a22c1aa9889f7ed2a8b9e11f3dc87f6197934c",
}
CONFORMANCE = """
from sdkpack.testing import ExporterConformance, KeyProviderConformance, OperatorConformance, RuntimeConformance

class TestRuntime(RuntimeConformance):
    runtime = "frozen.v1"

class TestOperator(OperatorConformance):
    operator = "frozen.shift"

class TestExporter(ExporterConformance):
    exporter = "frozen.listing"
    runtime = "frozen.v1"

class TestKeys(KeyProviderConformance):
    scheme = "frozen"
"""


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_is_not_changed(name: str) -> None:
    assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == FROZEN[name]


def test_plugins_of_api_1_0_conform(tmp_path: Path) -> None:
    site = install_copy(HERE / "frozen-1.0", tmp_path)
    (tmp_path / "test_conformance.py").write_text(CONFORMANCE)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         str(tmp_path / "test_conformance.py")],
        env=environment_with(site), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
