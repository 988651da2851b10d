from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sdkpack.build.findings import Findings
from sdkpack.build.fingerprint import Fingerprints, needed_distributions
from sdkpack.errors import DocumentError, FileError, InterruptedRunError, ModelError, Problem
from sdkpack.host.registry import PluginState, Registered
from sdkpack.plugin import OperatorInfo


def plugin(module: str, distribution: str = "") -> PluginState:
    return PluginState(name="p", module=module, distribution=distribution, version="1", api=(1, 0))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "acme_plugin_tree"
    (path / "inner").mkdir(parents=True)
    (path / "__init__.py").write_text("raise SystemExit('imported')")
    (path / "inner" / "table.bin").write_bytes(b"1")
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def test_a_plugin_of_no_distribution_is_told_by_its_source(package: Path) -> None:
    def fingerprint() -> str:
        return Fingerprints().plugin(plugin("acme_plugin_tree.plugin"))

    first = fingerprint()
    assert first.startswith("acme_plugin_tree source sha256:")
    assert fingerprint() == first
    (package / "inner" / "table.bin").write_bytes(b"2")
    second = fingerprint()
    (package / "inner" / "table.bin").rename(package / "table.bin")
    assert len({first, second, fingerprint()}) == 3
    assert "acme_plugin_tree" not in sys.modules


def test_compiled_python_is_no_source(package: Path) -> None:
    first = Fingerprints().plugin(plugin("acme_plugin_tree"))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert Fingerprints().plugin(plugin("acme_plugin_tree")) == first


def test_an_installed_distribution_is_told_by_its_version() -> None:
    import pluggy

    assert Fingerprints().plugin(plugin("pluggy", "pluggy")) == f"pluggy {pluggy.__version__}"


def test_other_libraries_are_told_by_their_versions() -> None:
    import onnx

    text = Fingerprints().core("onnx", "no-such-distribution")
    assert f"onnx {onnx.__version__}" in text
    assert text.startswith("sdkpack ")


def row(requires: tuple[str, ...], distribution: str = "pluggy") -> Registered[Any]:
    info = OperatorInfo(name="a.b", summary="x", load="m:C", requires=requires)
    return Registered(info, plugin("m", distribution))


def test_what_a_bundle_needs_is_what_its_plugins_say() -> None:
    import numpy as np

    found = needed_distributions([row(("numpy>=2; python_version > '3'", "no-such (>1)", "pydantic[x]~=2.0"))])
    assert set(found) == {"sdkpack", "pluggy", "numpy", "pydantic"}
    assert found["numpy"] == np.__version__


# Findings ---------------------------------------------------------------------------------------------------------
def test_nothing_wrong_raises_nothing() -> None:
    findings = Findings("r.toml")
    with findings.at("a"):
        pass
    findings.raise_any()
    assert not findings


def test_one_error_keeps_kind_hint_and_problems() -> None:
    findings = Findings("r.toml")
    with findings.at("models.x"):
        raise FileError("missing", where="f.onnx", hint="look there", problems=[Problem(path="p", message="m")])
    with pytest.raises(FileError) as error:
        findings.raise_any()
    assert str(error.value) == "r.toml: models.x: f.onnx: missing\n  p: m"
    assert error.value.hint == "look there"


def test_several_of_one_kind_keep_it_and_others_become_a_document_s() -> None:
    findings = Findings("r.toml")
    findings.add("a", FileError("one", hint="h"))
    findings.add("b", FileError("two", where="w"))
    with pytest.raises(FileError, match="2 problems") as error:
        findings.raise_any()
    assert [str(problem) for problem in error.value.problems] == ["a: one (h)", "b: w: two"]
    findings.add("c", ModelError("three", problems=[Problem(path="d", message="four"), Problem(path="e", message="5")]))
    with pytest.raises(DocumentError, match="4 problems") as mixed:
        findings.raise_any()
    assert [problem.path for problem in mixed.value.problems] == ["a", "b", "d", "e"]


def test_a_wish_to_stop_is_no_finding() -> None:
    findings = Findings("r.toml")
    with pytest.raises(InterruptedRunError), findings.at("a"):
        raise InterruptedRunError("stop")
    assert not findings
