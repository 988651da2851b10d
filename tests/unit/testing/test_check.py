"""`plugins check`: what it finds, and how it says so."""

from __future__ import annotations

import pytest

from sdkpack.errors import PluginMissingError, UsageError
from sdkpack.testing.check import CheckReport, check_plugin
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
