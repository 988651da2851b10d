"""`plugins check`: what it finds, and how it says so."""

from __future__ import annotations

import pytest

from sdkpack.errors import PluginMissingError, UsageError
from sdkpack.testing.check import CheckReport, check_plugin
from sdkpack.testing.coverage import CoverageReport, Expectations, Outcome
from sdkpack.testing.html import page


def report(**more: object) -> CheckReport:
    tests = (
        {"name": "test_a", "outcome": "passed", "reason": ""},
        {"name": "test_b", "outcome": "skipped", "reason": "no <capability>"},
    )
    facts: dict[str, object] = {
        "name": "acme.npu2", "kind": "runtime", "distribution": "acme", "version": "1", "api": (1, 0), "tests": tests,
    }  # fmt: skip
    return CheckReport(**{**facts, **more})  # type: ignore[arg-type]


def test_passed_means_that_something_was_tested_and_nothing_failed() -> None:
    assert report().passed
    assert not report(tests=()).passed
    assert not report(tests=({"name": "test_b", "outcome": "skipped", "reason": ""},)).passed
    assert not report(tests=(*report().tests, {"name": "c", "outcome": "failed", "reason": "x"})).passed
    assert not report(coverage={"as_expected": False}).passed


def test_the_page_escapes_what_plugins_say() -> None:
    text = page(report(name="<b>&").as_json())
    assert "&lt;b&gt;&amp;" in text and "<b>" not in text
    assert "no &lt;capability&gt;" in text


def test_a_plugin_that_is_not_there_is_told() -> None:
    with pytest.raises(PluginMissingError, match=r"acme\.nothing"):
        check_plugin("acme.nothing")


def test_operator_coverage_is_for_runtimes() -> None:
    with pytest.raises(UsageError, match="for runtimes"):
        check_plugin("wheel", operators=True)


def test_the_page_shows_coverage_with_reasons_and_opsets() -> None:
    outcomes = (
        Outcome(case="test_relu", result="pass", operators=("Relu",), opset=14),
        Outcome(case="test_tanh", result="unsupported", operators=("Tanh",), opset=13, reason="no <kernel>"),
    )
    expected = Expectations(failures=(("test_tanh", "unsupported", "none is planned"),))
    coverage = CoverageReport(
        runtime="acme.npu2", fingerprint="acmecc 5", precision="int8", outcomes=outcomes, expectations=expected,
        seconds=1.0,
    ).as_json()  # fmt: skip
    text = page(report(coverage=coverage).as_json())
    assert "2 cases of ONNX&#x27;s backend suite" in text or "2 cases of ONNX's backend suite" in text
    assert "<td>Relu</td><td class=n>1</td><td class=n>0</td><td class=n>14</td>" in text
    assert "<td>Tanh</td><td class=n>0</td><td class=n>1</td><td class=n>none</td>" in text
    assert "none is planned" in text, "the listed reason, not the library's"
    assert report(coverage=coverage).passed
