"""`sdkpack plugins env`, with a plugin that is really installed beside the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGIN = """
from sdkpack.plugin import ConverterInfo, EnvironmentSpec, Half, Probe, hookimpl

SDKPACK_API = (1, 0)
ENVIRONMENT = EnvironmentSpec(requirements=(), smoke_test="import json")


class Converter:
    def probe(self):
        return Probe(ok=True, fingerprint="toy 1")


@hookimpl
def sdkpack_converters():
    half = Half(load="acme_toy_plugin:Converter", isolation="environment", environment=ENVIRONMENT)
    return [ConverterInfo(name="acme.toy", summary="Toys.", half=half, reads=("application/x-toy",))]
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs a plugin; the folder of environments is empty."""
    site = tmp_path / "site"
    info = site / "acme_toy-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_toy_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sdkpack.plugins.v1]\ntoy = acme_toy_plugin\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("SDKPACK_ENVIRONMENTS", str(tmp_path / "environments"))
    # Without the plugins of this checkout, whose environments have gigabytes.
    monkeypatch.setenv("SDKPACK_PLUGINS", "acme-toy, sdkpack-onnxruntime")
    monkeypatch.delitem(sys.modules, "acme_toy_plugin", raising=False)
    return tmp_path / "environments"


def test_environments_are_listed_built_checked_and_removed(installed: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    before = sdkpack("plugins", "env", "list", "--json").json
    assert (before["environments"], before["not_built"]) == ([], ["acme.toy"])
    assert "not built yet: acme.toy" in sdkpack("plugins", "env", "list").out
    assert not installed.exists(), "looking makes nothing"

    built = sdkpack("plugins", "env", "build", "acme.toy")
    assert built.code == 0, built.err
    assert "building an environment for 'acme.toy'" in built.err
    listed = sdkpack("plugins", "env", "list", "--json").json
    assert listed["not_built"] == []
    [one] = listed["environments"]
    assert one["used_by"] == ["acme.toy"]
    assert one["size_bytes"] > 0
    assert sdkpack("plugins", "env", "build").err == "", "what is there is left alone"

    checked = sdkpack("plugins", "env", "check", "--json")
    assert checked.code == 0
    assert checked.json["environments"] == [{"plugin": "acme.toy", "environment": one["name"], "problem": ""}]
    assert {"memory", "network", "files", "processes"} <= set(checked.json["enforced"])

    site = next((installed / one["name"]).glob("lib/python*/site-packages"))
    (site / "planted-1.0.dist-info").mkdir()
    damaged = sdkpack("plugins", "env", "check")
    assert damaged.code == 5
    assert "its packages changed since it was built: planted" in damaged.out

    assert sdkpack("plugins", "env", "remove").code == 2
    assert sdkpack("plugins", "env", "remove", "..").code == 2
    assert sdkpack("plugins", "env", "remove", "--unused").out == "nothing to remove\n"
    removed = sdkpack("plugins", "env", "remove", one["name"])
    assert (removed.code, removed.out.split(":")[0]) == (0, f"removed {one['name']}")
    assert sdkpack("plugins", "env", "list", "--json").json["environments"] == []


MORE = PLUGIN.replace(
    "    return [ConverterInfo(",
    """    bad = EnvironmentSpec(requirements=("acme-not-there==1",), smoke_test="", size_bytes=3 << 20)
    other = Half(load="acme_toy_plugin:Converter", isolation="environment", environment=bad)
    return [ConverterInfo(name="acme.bad", summary="", half=other, reads=("a/b",)), ConverterInfo(""",
).replace('smoke_test=""', 'smoke_test="import x"')


def test_one_that_cannot_be_built_keeps_no_other_from_it(  # type: ignore[no-untyped-def]
    installed: Path, sdkpack, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed.parent / "site" / "acme_toy_plugin.py").write_text(MORE)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert "not built yet: acme.bad (about 3.0 MiB), acme.toy" in sdkpack("plugins", "env", "list").out
    ended = sdkpack("plugins", "env", "build", "--json")
    assert ended.code == 5
    assert ended.json["ok"] is False
    assert [one["used_by"] for one in ended.json["environments"]] == [["acme.toy"]]
    [failed] = ended.json["failed"]
    assert (failed["plugin"], failed["code"]) == ("acme.bad", "E501")
    assert "acme-not-there" in failed["message"]
    ended = sdkpack("plugins", "env", "build")
    assert "error E501: acme.bad: " in ended.err
    assert "acme.toy" in ended.out


def test_a_build_shows_how_it_goes(installed: Path) -> None:
    """What a terminal sees; elsewhere one line says that it begins."""
    from sdkpack.host.environments import Environments
    from sdkpack.plugin import EnvironmentSpec

    told: list[str] = []
    spec = EnvironmentSpec(requirements=(), smoke_test="import time; time.sleep(0.1)")
    Environments(installed, {"PATH": "/usr/bin:/bin"}).ensure(spec, plugin="acme.toy", progress=told.append)
    assert told[0].startswith("0 s")
    assert told[-1] == "its smoke test"


def test_measures_have_their_units() -> None:
    from sdkpack.cli.environments import _measure_text

    assert _measure_text("memory", str(3 << 30)) == "3.0 GiB of address space"
    assert _measure_text("processor time", "600") == "600 s"
    assert _measure_text("files", "landlock 7") == "landlock 7"


def test_a_plugin_without_an_environment_is_told(installed: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("plugins", "env", "build", "float16")
    assert ended.code == 5
    assert "no plugin 'float16' has an environment of its own" in ended.err
    assert "acme.toy" in ended.err


def test_plugins_show_where_they_run(installed: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert "1 converter                               1 environment  used" in sdkpack("plugins", "list").out
    page = sdkpack("plugins", "show", "acme.toy")
    assert "converter: an environment of its own (empty)" in page.out
    assert "reads: application/x-toy" in page.out
    facts = sdkpack("plugins", "show", "float16", "--json").json
    assert (facts["kind"], facts["precisions"]) == ("compressor", ["float16"])
    assert facts["halves"]["compressor"]["isolation"] == "in-process"


def test_doctor_builds_nothing(installed: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert "its environment is built at the first use" in sdkpack("doctor").out
    assert not installed.exists()
    assert sdkpack("plugins", "env", "build").code == 0
    assert "toy 1; python 3." in sdkpack("doctor").out
