"""Coverage: classes, expectations, isolation, reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sdkpack.errors import UsageError
from sdkpack.testing.coverage import CoverageReport, Expectations, Outcome

ROOT = Path(__file__).parent.parent.parent.parent
ONNXRUNTIME = ROOT / "plugins/onnxruntime/tests/operators.toml"


def outcome(case: str, result: str, operator: str = "Relu", opset: int = 14) -> Outcome:
    return Outcome(case=case, result=result, operators=(operator,), opset=opset, reason="because")


def expectations(folder: Path, text: str) -> Expectations:
    path = folder / "expected.toml"
    path.write_text(text)
    return Expectations.read(path)


LISTED = """
opsets = [7, 20]
[[failures]]
result = "unsupported"
reason = "no kernel"
cases = ["test_a", "test_b_*"]
[[failures]]
result = "environment"
reason = "needs a locale"
cases = ["test_locale"]
"""


def test_an_unlisted_failure_and_an_unexpected_pass_both_fail(tmp_path: Path) -> None:
    expected = expectations(tmp_path, LISTED)
    good = [outcome("test_a", "unsupported"), outcome("test_b_1", "unsupported"), outcome("test_c", "pass"),
            outcome("test_locale", "pass"), outcome("test_gap", "adaptor gap")]  # fmt: skip
    assert expected.judge(good).as_expected
    unlisted = expected.judge([*good, outcome("test_d", "wrong value")])
    assert [one.case for one in unlisted.unlisted] == ["test_d"] and not unlisted.as_expected
    passing = expected.judge([outcome("test_a", "pass"), *good[1:]])
    assert [one.case for one in passing.passing] == ["test_a"] and not passing.as_expected
    other = expected.judge([outcome("test_a", "error"), *good[1:]])
    assert [one.case for one in other.unlisted] == ["test_a"], "another class than announced"
    gone = expected.judge(good[:1] + good[2:])
    assert gone.absent == ("test_b_*",) and not gone.as_expected


def test_what_depends_on_the_machine_is_classed_so(tmp_path: Path) -> None:
    expected = expectations(tmp_path, LISTED)
    assert expected.classed(outcome("test_locale", "unsupported")).result == "environment"
    assert expected.judge([expected.classed(outcome("test_locale", "error"))]).unlisted == ()
    assert expected.classed(outcome("test_z", "error")).result == "error"
    assert expected.judge([outcome("test_z", "environment")]).unlisted


def test_operators_that_are_not_claimed_are_expected_to_be_refused(tmp_path: Path) -> None:
    expected = expectations(tmp_path, 'supports = ["Conv"]')
    assert expected.judge([outcome("a", "unsupported", "Gemm"), outcome("b", "pass", "Conv")]).as_expected
    assert expected.judge([outcome("a", "pass", "Gemm")]).as_expected, "more than it claims is fine"
    assert not expected.judge([outcome("a", "wrong value", "Gemm")]).as_expected
    assert not expected.judge([outcome("a", "unsupported", "Conv")]).as_expected


@pytest.mark.parametrize(
    "text",
    ["opset = 7", "opsets = [7]", '[[failures]]\nresult = "unsupported"\ncases = []',
     '[[failures]]\nresult = "slow"\nreason = "r"\ncases = []', '[[failures]]\nresult = "error"\nreason = " "\ncases = []',
     "no toml ["],
)  # fmt: skip
def test_a_bad_file_of_expectations_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        expectations(tmp_path, text)


def test_the_report_counts_every_class_and_the_highest_opset() -> None:
    outcomes = (outcome("a", "pass", opset=6), outcome("b", "pass", opset=13), outcome("c", "unsupported", opset=21))
    report = CoverageReport(
        runtime="acme.npu2", fingerprint="f", precision="float32", outcomes=outcomes, expectations=Expectations(),
        seconds=1.0,
    )  # fmt: skip
    facts = json.loads(json.dumps(report.as_json()))
    assert facts["totals"] == {
        "pass": 2, "unsupported": 1, "wrong value": 0, "error": 0, "out of window": 0, "adaptor gap": 0,
        "environment": 0,
    }  # fmt: skip
    assert facts["operators"] == [{"operator": "Relu", "highest_opset": 13, "pass": 2, "unsupported": 1}]
    assert not facts["as_expected"] and "not expected: c" in report.text()
    with pytest.raises(ValueError, match="no such class"):
        outcome("d", "slow")


ISOLATED = """
import os, signal, sys, time
from sdkpack.testing.coverage.isolation import Died, run_isolated

def prepare():
    def work(number):
        if number == 1: os.kill(os.getpid(), signal.SIGSEGV)
        if number == 3: time.sleep(60)
        if number == 4: os._exit(7)
        print("noise on stdout")
        return {"number": number}
    return work

found = dict(run_isolated(prepare, range(8), workers=2, limit_s=1.5))
assert sorted(found) == list(range(8)), found
died = {number: result.reason for number, result in found.items() if isinstance(result, Died)}
print(sorted(died.items()))
"""


def test_a_case_that_crashes_or_hangs_costs_itself_alone() -> None:
    begin = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", ISOLATED], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str([
        (1, f"the process was ended by {signal.SIGSEGV.name}"), (3, "took longer than 1.5 s"),
        (4, "the process ended with exit code 7"),
    ])  # fmt: skip
    assert time.monotonic() - begin < 50, "it waited for the one that hangs"


@pytest.fixture(scope="module")
def onnxruntime() -> dict[str, Any]:
    before = os.times()
    ended = subprocess.run(
        [sys.executable, "-m", "sdkpack.testing.coverage", "onnxruntime", "--expected", str(ONNXRUNTIME)],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    after = os.times()
    report: dict[str, Any] = json.loads(ended.stdout)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return report | {"cpu_s": used}


def test_onnxruntime_passes_what_is_known_to_pass(onnxruntime: dict[str, Any]) -> None:
    """On the versions that the file was made with; others may differ, and the file is then to be mended."""
    import onnx
    import onnxruntime as library

    if (onnx.__version__, library.__version__) != ("1.23.2", "1.32.0"):
        pytest.skip("the expected failures are those of onnx 1.23.2 and onnxruntime 1.32.0")
    assert onnxruntime["cases"] == 2033
    assert onnxruntime["totals"]["pass"] >= 1786
    assert sum(onnxruntime["totals"].values()) == 2033, "no case is unclassified"
    assert onnxruntime["unlisted"] == [] and onnxruntime["unexpected_passes"] == [] and onnxruntime["absent"] == []
    assert onnxruntime["as_expected"]


def test_it_takes_at_most_half_a_minute_of_two_cores(onnxruntime: dict[str, Any]) -> None:
    """CPU time: the clock on the wall measures whatever else runs here."""
    assert onnxruntime["cpu_s"] <= 60
