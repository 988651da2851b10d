"""`plugins check`: what it finds, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from plugins.caffe.tests.nets import write
from plugins.caffe.tests.test_conformance import BIAS, NET, WEIGHTS
from sdkpack.cli.app import app
from sdkpack.errors import PluginMissingError, UsageError
from sdkpack.host.loading import PluginState, kind_of
from sdkpack.host.registry import Registered
from sdkpack.plugin import ConverterInfo, Half, OptimizerInfo, PluginInfo
from sdkpack.testing.check import CheckReport, CheckWish, check_plugin, find_plugin
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
        check_plugin("wheel", CheckWish(operators=True))


def test_a_converter_is_not_checked_without_anything_to_convert() -> None:
    with pytest.raises(UsageError, match=r"what converter 'caffe' reads") as caught:
        check_plugin("caffe")
    assert "--source" in caught.value.hint and "--tests" in caught.value.hint
    with pytest.raises(UsageError, match="sources are for converters"):
        check_plugin("wheel", CheckWish(source=Path(__file__)))


def test_a_converter_is_checked_with_a_file_of_its_format(tmp_path: Path) -> None:
    prototxt, caffemodel = write(tmp_path, NET, {"fc": [WEIGHTS, BIAS]})
    ended = CliRunner().invoke(
        app, ["plugins", "check", "caffe", "--source", str(caffemodel), "--file", f"prototxt={prototxt}", "--json"]
    )
    facts = json.loads(ended.stdout)
    assert ended.exit_code == 0 and facts["passed"], ended.output
    outcomes = {test["name"]: test["outcome"] for test in facts["tests"]}
    assert outcomes["test_damaged_sources_are_documented_errors"] == "passed"
    assert outcomes["test_it_packs_and_runs_as_it_computed_before"] == "passed"
    ended = CliRunner().invoke(app, ["plugins", "check", "caffe", "--source", str(caffemodel), "--file", "prototxt"])
    assert ended.exit_code == 2 and "--file is ROLE=FILE" in ended.output


def test_the_plugins_own_test_classes_are_run(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from sdkpack.testing import OperatorConformance\n"
        "class TestOther(OperatorConformance):\n    operator = 'scores.top_k'\n"
        "class TestMine(OperatorConformance):\n    operator = 'scores.softmax'\n"
        "def test_of_something_else(): assert False\n"
    )
    found = check_plugin("scores.softmax", CheckWish(tests=tmp_path))
    assert found.passed and found.count("passed") > 5
    with pytest.raises(UsageError, match="has no ExporterConformance with exporter = 'wheel'"):
        check_plugin("wheel", CheckWish(tests=tmp_path))


def test_a_name_of_several_kinds_is_told() -> None:
    class Both:
        def __init__(self, *infos: PluginInfo) -> None:
            self.infos = infos

        def __getattr__(self, kind: str) -> Any:
            return lambda: [Registered(info, state) for info in self.infos if kind == f"{kind_of(info)}s"]

    state = PluginState(name="p", module="p", distribution="p", version="1", api=(1, 0))
    half = Half(load="p:C")
    rows: Any = Both(
        ConverterInfo(name="acme.x", summary="s", half=half, reads=("a/b",)),
        OptimizerInfo(name="acme.x", summary="s", half=half, category="fusion"),
    )
    rows.key_providers = list
    with pytest.raises(UsageError, match="name of several: converter and optimizer") as caught:
        find_plugin(rows, "acme.x")
    assert caught.value.hint == "say --kind 'converter'"
    assert kind_of(find_plugin(rows, "acme.x", "optimizer").info) == "optimizer"


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
