"""Plugins frozen at an API version run for as long as that API's major lives."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sdkpack.host.loading import _HOOKS
from tests.integration.installing import environment_with, install_copy

HERE = Path(__file__).parent
FROZEN = {
    # A change here is a change of what vendors wrote: it must not be made. New API versions get a plugin of their own.
    "frozen-1.0/src/frozen_1_0/plugin.py": "996f022d8bcf3efe080ef9adc1a22c1aa9889f7ed2a8b9e11f3dc87f6197934c",
    "frozen-1.0b/src/frozen_1_0b/plugin.py": "ce34783de6440fad84048eb7908a904de4816ea984bd40a336249c3d6e7d2d1a",
}
CONFORMANCE = {
    "frozen-1.0": """
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
""",
    "frozen-1.0b": """
from sdkpack.testing import CompressorConformance, ConverterConformance, OptimizerConformance, SourceCase

class TestConverter(ConverterConformance):
    converter = "frozen.table"
    params = {"shift": 0.5}

    def sources(self, folder):
        (folder / "one.table").write_text("TABLE 1 -2 0.5")
        (folder / "two.table").write_text("TABLE 3 4")
        (folder / "more.txt").write_text("1.5")
        return [
            SourceCase(source=folder / "one.table"),
            SourceCase(source=folder / "two.table", files={"more": folder / "more.txt"}),
        ]

    def test_a_missing_further_file_is_named(self):
        \"\"\"Its further file may be left out.\"\"\"

class TestOptimizer(OptimizerConformance):
    optimizer = "frozen.namer"

class TestCompressor(CompressorConformance):
    compressor = "frozen.rounder"
""",
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_is_not_changed(name: str) -> None:
    assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == FROZEN[name]


def test_every_kind_is_frozen() -> None:
    frozen = "".join((HERE / name).read_text("utf-8") for name in FROZEN)
    assert set(re.findall(r"^def (sdkpack_\w+)\(\)", frozen, re.MULTILINE)) == set(_HOOKS)


@pytest.mark.parametrize("name", CONFORMANCE)
def test_plugins_of_api_1_0_conform(name: str, tmp_path: Path) -> None:
    site = install_copy(HERE / name, tmp_path)
    (tmp_path / "test_conformance.py").write_text(CONFORMANCE[name])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         str(tmp_path / "test_conformance.py")],
        env=environment_with(site), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
    # Nothing of it passes by being skipped.
    assert not re.search(r"SKIPPED.*(reference|toolchain is not here|models\(\))", ended.stdout), ended.stdout
