"""What is to go from the plugin API is told of the plugins that use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import sdkpack.plugin
from sdkpack.cli.app import app
from sdkpack.host.deprecated import deprecated_uses
from sdkpack.host.registry import Registered, Registry
from sdkpack.plugin import deprecations
from sdkpack.plugin.deprecations import Deprecation
from sdkpack.testing import OperatorConformance, RuntimeConformance


def entry(kind: str, what: str) -> Deprecation:
    return Deprecation(kind=kind, what=what, since=(1, 7), instead="use what is better")  # type: ignore[arg-type]


TOLD = "deprecated since API 1.7: use what is better"
TABLE = (
    entry("field", "RuntimeInfo.requires"),
    entry("field", "RuntimeInfo.opsets"),
    entry("field", "Half.command"),
    entry("field", "Port.optional"),
    entry("word", "run.concurrent"),
    entry("word", "run.clone"),
    entry("name", "CompiledModel"),
    entry("name", "Cache"),
)


def uses(module: str) -> set[str]:
    (state,) = Registry.of_modules([module]).plugins
    assert not state.reason
    found = deprecated_uses(state, TABLE)
    assert all(use.endswith(TOLD) for use in found)
    return {use.partition(",")[0] for use in found}


def test_fields_words_and_names_in_use_are_found_and_no_others() -> None:
    # sdkpack-onnxruntime sets `requires`, says run.concurrent, and its compiler, which is not imported, makes models.
    assert uses("sdkpack_onnxruntime.plugin") == {"RuntimeInfo.requires", "run.concurrent", "CompiledModel"}
    assert uses("sdkpack_caffe.plugin") == set()


def test_a_name_used_through_its_module_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_old.py").write_text(
        "import sdkpack.plugin as api\nSDKPACK_API = (1, 0)\ndef f(cache: api.Cache): ...\n"
    )
    (tmp_path / "acme_no_python").mkdir()
    (tmp_path / "acme_no_python/__init__.py").write_text("SDKPACK_API = (1, 0)\n")
    (tmp_path / "acme_no_python/other.py").write_text("this is (no Python")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert uses("acme_old") == {"Cache"}
    assert uses("acme_no_python") == set()


def test_the_table_names_what_there_is() -> None:
    """Each entry is of the API, and marked where it is defined."""
    for one in deprecations.DEPRECATIONS:
        owner, _, field = one.what.partition(".")
        if one.kind == "name":
            assert "deprecated" in (getattr(sdkpack.plugin, one.what).__doc__ or "").lower()
        elif one.kind == "field":
            assert field in getattr(sdkpack.plugin, owner).__dataclass_fields__
        assert one.since <= sdkpack.plugin.API_VERSION


@pytest.fixture
def deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecations, "DEPRECATIONS", TABLE)


@pytest.mark.usefixtures("deprecated")
def test_list_and_doctor_name_the_plugins() -> None:
    listed = CliRunner().invoke(app, ["plugins", "list"]).output
    assert f"plugin onnxruntime uses run.concurrent, {TOLD}" in listed
    facts = json.loads(CliRunner().invoke(app, ["plugins", "list", "--json"]).output)["plugins"]
    by_name = {plugin["name"]: plugin["deprecated"] for plugin in facts}
    assert f"run.concurrent, {TOLD}" in by_name["onnxruntime"] and by_name["caffe"] == []
    ended = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["what"]: finding for finding in json.loads(ended.output)["findings"]}
    assert f"uses run.concurrent, {TOLD}" in findings["plugin onnxruntime"]["told"]
    assert findings["plugin onnxruntime"]["ok"], "it works for as long as this major"


class _Runtime(RuntimeConformance):
    runtime = "onnxruntime"


class _Operator(OperatorConformance):
    operator = "scores.softmax"


@pytest.mark.usefixtures("deprecated")
def test_the_conformance_kit_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"plugin onnxruntime uses .*; run\.concurrent, deprecated"):
        _Runtime().test_it_uses_nothing_that_is_to_go()


def test_nothing_is_told_of_what_stays() -> None:
    states: list[Registered[object]] = [_Runtime().row(), _Operator().row()]  # type: ignore[list-item]
    assert all(deprecated_uses(row.plugin) == () for row in states)
    _Runtime().test_it_uses_nothing_that_is_to_go()
