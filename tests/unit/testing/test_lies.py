"""What breaks a contract is found by the conformance kit, and told by its name."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.integration.installing import environment_with

HERE = Path(__file__).parent
LIES = {
    # class: (kind, test, what is told)
    "unknown": ("converter", "test_the_descriptor_says_which_sources_are_its_own", "none of its magic bytes"),
    "refuses": ("converter", "test_it_converts_what_it_says_it_reads[in-process]",
                "says that it reads text/x-line, and it refuses 'net.line'.*version 2 is not supported"),
    "random": ("converter", "test_same_input_gives_the_same_bytes[job]",
               "declared deterministic, and two results differ.*or say `deterministic=False`"),
    "crashes": ("converter", "test_damaged_sources_are_documented_errors",
                "an empty file: IndexError.*\n.*a picture: UnicodeDecodeError"),
    "dies": ("converter", "test_damaged_sources_are_documented_errors", "ended with -6.*an empty file"),
    "believes": ("converter", "test_damaged_sources_are_documented_errors", "a picture: it was converted"),
    "newer": ("converter", "test_it_writes_no_newer_opset_than_asked_for[in-process]", "and it wrote 18"),
    "wrong": ("converter", "test_numbers_agree_with_the_source[job]", "normalised error of 0.0099"),
    "restless": ("converter", "test_numbers_agree_with_the_source[in-process]", "the same sample twice"),
    "writes": ("converter", "test_writes_only_in_its_work_folder_and_opens_no_socket", r"wrote .*cache\.bin"),
    "scribbles": ("converter", "test_it_changes_none_of_its_inputs[in-process]", "assert"),
    "deaf": ("converter", "test_cancel_ends_it[in-process-at once]", r"still at work \d s after it was cancelled"),
    "sure": ("converter", "test_it_is_sure_of_its_own_and_of_nothing_else", "says that an empty file is its own"),
    "elsewhere": ("converter", "test_it_converts_what_it_says_it_reads[in-process]", "outside of its work folder"),
    "rounds": ("optimizer", "test_results_compute_what_their_models_compute[job]", "normalised error of"),
    "denies": ("optimizer", "test_modified_is_honest[in-process]", "says that nothing changed, and the model is"),
    "boasts": ("optimizer", "test_modified_is_honest[in-process]", "modified the model, and nothing changed"),
    "restarts": ("optimizer", "test_a_second_run_changes_nothing[in-process]", "it changes what it made itself"),
    "undone": ("optimizer", "test_packed_sealed_verified_and_run_is_what_the_model_before_computes", "lies.undone"),
    "renames": ("optimizer", "test_inputs_and_outputs_keep_names_types_and_shapes[job]", "the outputs are result"),
    "loses": ("compressor", "test_what_it_costs_is_within_the_budget[in-process]", "normalised error of .*max_error"),
    "other": ("compressor", "test_what_it_costs_is_within_the_budget[in-process]", "asked for float16, it made int8"),
}  # fmt: skip
SOURCES = """
    def sources(self, folder):
        (folder / "net.line").write_text("LINE 2.5")
        return [SourceCase(source=folder / "net.line")]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    facts = site / "lies-1.0.dist-info"
    facts.mkdir()
    (site / "lies.py").write_text((HERE / "lies.py").read_text("utf-8"))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lies\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[sdkpack.plugins.v1]\nlies = lies\n")
    return site


def run(folder: Path, site: Path, classes: dict[str, str], tests: list[str]) -> dict[str, str]:
    """What pytest tells of each test, by its class and name; empty where it passed."""
    names = "ConverterConformance, OptimizerConformance, CompressorConformance, SourceCase"
    text = f"from sdkpack.testing import {names}\n\n\n"
    for name, kind in classes.items():
        body = SOURCES if kind == "converter" else ""
        text += f"class Test{name}({kind.title()}Conformance):\n    {kind} = 'lies.{name}'\n{body}\n\n"
    (folder / "test_lies.py").write_text(text)
    out = folder / "out.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), f"--junitxml={out}",
         *(f"{folder}/test_lies.py::{test}" for test in tests)],
        env=environment_with(site), cwd=folder, capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    told = {}
    for case in ET.parse(out).iter("testcase"):
        failure = case.find("failure")
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        told[name] = "" if failure is None else f"{failure.get('message')}\n{failure.text}"
        if case.find("skipped") is not None:
            told[name] = "skipped"
    return told


def test_every_lie_is_named(site: Path, tmp_path: Path) -> None:
    classes = {name: kind for name, (kind, _, _) in LIES.items()}
    tests = [f"Test{name}::{test}" for name, (_, test, _) in LIES.items()]
    told = run(tmp_path, site, classes, tests)
    assert set(told) == set(tests)
    unseen = {name: told[f"Test{name}::{test}"][:400] for name, (_, test, expected) in LIES.items()
              if not re.search(expected, told[f"Test{name}::{test}"], re.DOTALL)}  # fmt: skip
    assert not unseen


def test_the_same_without_a_lie_passes(site: Path, tmp_path: Path) -> None:
    tests = sorted({f"Testhonest::{test}" for kind, test, _ in LIES.values() if kind == "converter"})
    told = run(tmp_path, site, {"honest": "converter"}, tests)
    assert told == dict.fromkeys(tests, "")
