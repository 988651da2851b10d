"""Real distributions, made in a folder and seen by a process of its own: a broken one costs nothing but itself."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdkpack.host.choices import network_allowed

GOOD = """
from sdkpack.plugin import OperatorInfo, Port, hookimpl

SDKPACK_API = (1, 0)

@hookimpl
def sdkpack_operators():
    return [OperatorInfo(name="good.double", summary="doubles", load="good_plugin.work:Double",
                         inputs=(Port(name="x", type="tensor(float32)"),))]
"""

PROBE = """
import json
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry

registry = Registry.scan()
states = {
    f"{state.distribution or '-'}:{state.name}": {
        "loaded": state.loaded, "reason": state.reason, "version": state.version,
        "rows": [row.name for row in state.rows],
    }
    for state in registry.plugins
}
try:
    registry.operator("good.double")
    found = "found"
except SdkpackError as error:
    found = f"{error.code}: {error} | {error.hint}"
print(json.dumps({"states": states, "found": found, "conflicts": registry.conflicts()}))
"""


@dataclass
class Site:
    """A folder of distributions, as pip would leave it behind."""

    folder: Path

    def add(self, name: str, code: str | None, *, point: str = "", entry: str = "", version: str = "1.0") -> None:
        module = name.replace("-", "_") + "_plugin"
        if code is not None:
            (self.folder / f"{module}.py").write_text(code, encoding="utf-8")
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        text = entry or f"[sdkpack.plugins.v1]\n{point or name} = {module}\n"
        (info / "entry_points.txt").write_text(text, encoding="utf-8")

    def run(self, script: str = PROBE, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {key: value for key, value in os.environ.items() if key != "SDKPACK_PLUGINS"}
        variables |= {"XDG_CONFIG_HOME": str(self.folder / "config")}
        variables |= {"PYTHONPATH": str(self.folder), **environment}
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=variables, check=False
        )

    def look(self, **environment: str) -> dict[str, Any]:
        done = self.run(**environment)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.add("good", GOOD)
    return made


def hook(body: str, *, name: str = "sdkpack_operators", api: str = "SDKPACK_API = (1, 0)") -> str:
    return (
        "from sdkpack.plugin import *\nfrom sdkpack.plugin import hookimpl\n"
        f"{api}\n@hookimpl\ndef {name}():\n    {body}\n"
    )


ROW = "OperatorInfo(name='bad.one', summary='', load='a.b:C'"
BROKEN = {
    "import error": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "syntax error": ("def (", "SyntaxError: invalid syntax"),
    "no module": (None, "ModuleNotFoundError: No module named 'bad_plugin'"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "empty exit at import": ("import sys; sys.exit()", "SystemExit"),
    "own exception at import": ("class Odd(Exception): pass\nraise Odd('odd')", "Odd: odd"),
    "no api": (hook("return []", api=""), "SDKPACK_API = (1, 0) is missing"),
    "api no pair": (hook("return []", api="SDKPACK_API = '1.0'"), "SDKPACK_API = (1, 0) is missing"),
    "older api": (hook("return []", api="SDKPACK_API = (0, 9)"), "is for plugin API 0.9, this sdkpack has 1.0"),
    "newer major": (hook("return []", api="SDKPACK_API = (2, 0)"), "is for plugin API 2.0, this sdkpack has 1.0"),
    "newer api": (hook("return []", api="SDKPACK_API = (1, 1)"), "is for plugin API 1.1, this sdkpack has 1.0"),
    "misspelt hook": (
        hook("return []", name="sdkpack_operator"),
        "implements 'sdkpack_operator', which is no hook (did you mean 'sdkpack_operators'?)",
    ),
    "hook with an argument": (
        "from sdkpack.plugin import hookimpl\nSDKPACK_API = (1, 0)\n@hookimpl\ndef sdkpack_operators(config): return []",
        "config",
    ),
    "raising hook": (hook("raise RuntimeError('no luck')"), "sdkpack_operators raised RuntimeError: no luck"),
    "exiting hook": (hook("raise SystemExit(1)"), "sdkpack_operators raised SystemExit: 1"),
    "raising generator": (hook(f"yield {ROW})\n    raise OSError('late')"), "sdkpack_operators raised OSError: late"),
    "hook without return": (hook("pass"), "sdkpack_operators returned None, expected a list of OperatorInfo"),
    "hook returns text": (hook("return 'abc'"), "sdkpack_operators returned a str, expected a list of OperatorInfo"),
    "hook returns one row": (hook(f"return {ROW})"), "returned a OperatorInfo, expected a list of OperatorInfo"),
    "wrong row": (hook("return [{}]"), "a list with a dict in it, expected OperatorInfo"),
    "row of another hook": (
        hook("return [ExporterInfo(name='a', summary='', load='a:B')]"),
        "a list with a ExporterInfo in it, expected OperatorInfo",
    ),
    "row without load": (hook("return [OperatorInfo(name='a', summary='')]"), "TypeError"),
    "bad name": (hook("return [OperatorInfo(name='Bad One', summary='', load='a:B')]"), "the name 'Bad One'"),
    "bad load": (hook("return [OperatorInfo(name='a', summary='', load='a.B')]"), "expected 'package.module:Class'"),
    "bad half": (
        hook("return [RuntimeInfo(name='a', summary='', runner=Half(load='x'))]", name="sdkpack_runtimes"),
        "expected 'package.module:Class'",
    ),
    "half without work": (
        hook("return [CompressorInfo(name='a', summary='', precisions=(), half=Half())]", name="sdkpack_compressors"),
        "neither load nor command",
    ),
    "command in this process": (
        hook("return [RuntimeInfo(name='a', summary='', compiler=Half(command=('x',)))]", name="sdkpack_runtimes"),
        "a command in-process",
    ),
    "isolated without an environment": (
        hook(
            "return [RuntimeInfo(name='a', summary='', compiler=Half(load='x:Y', isolation='environment'))]",
            name="sdkpack_runtimes",
        ),
        "isolation 'environment', and environment None",
    ),
    "an untested environment": (
        hook(
            "return [RuntimeInfo(name='a', summary='', compiler=Half(load='x:Y', isolation='environment',"
            " environment=EnvironmentSpec(requirements=(), smoke_test=' ')))]",
            name="sdkpack_runtimes",
        ),
        "an environment without a smoke test",
    ),
    "bad params": (hook(f"return [{ROW}, params=dict)]"), "expected a dataclass or None"),
    "bad version": (hook(f"return [{ROW}, version=0)]"), "with version 0, expected 1, 2, ..."),
    "bad port": (hook(f"return [{ROW}, inputs=(Port(name='x', type='tensor(flot)'),))]"), "unknown element type 'flot'"),
    "two ports": (
        hook(f"return [{ROW}, inputs=(Port(name='x', type='int'), Port(name='x', type='int')))]"),
        "two ports of one name",
    ),
    "rows twice": (hook(f"return [{ROW}), {ROW})]"), "has two rows for operator 'bad.one/1'"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_a_broken_plugin_costs_nothing_but_itself(site: Site, case: str) -> None:
    code, reason = BROKEN[case]
    site.add("bad", code)
    seen = site.look()
    state = seen["states"]["bad:bad"]
    assert not state["loaded"]
    assert reason in state["reason"]
    assert state["rows"] == []
    assert seen["found"] == "found"
    assert seen["states"]["good:good"] == {"loaded": True, "reason": "", "version": "1.0", "rows": ["good.double"]}


def test_each_broken_plugin_has_its_mend(site: Site) -> None:
    site.add("old", hook("return []", api="SDKPACK_API = (0, 9)"))
    site.add("new", hook("return []", api="SDKPACK_API = (2, 0)"))
    site.add("bare", "import acme_runtime_library")
    script = """
from sdkpack.host.registry import Registry
print([(state.name, state.mend) for state in Registry.scan().plugins if state.name in ("old", "new", "bare", "good")])
"""
    assert ast.literal_eval(site.run(script).stdout) == [
        ("bare", "pip install --upgrade bare, or pip uninstall it"),
        ("good", ""),
        ("new", "pip install --upgrade sdkpack"),
        ("old", "pip install --upgrade old, or pip uninstall it"),
    ]


ALL_HOOKS = """
from sdkpack.plugin import *
from sdkpack.plugin import hookimpl
SDKPACK_API = (1, 0)
@hookimpl
def sdkpack_operators(): return [OperatorInfo(name="all.op", summary="", load="a:B", version=2)]
@hookimpl
def sdkpack_runtimes(): return (RuntimeInfo(name="all.runtime", summary=""),)
@hookimpl
def sdkpack_converters(): return [ConverterInfo(name="all.converter", summary="", half=HALF, reads=("a/b",))]
@hookimpl
def sdkpack_optimizers(): return [OptimizerInfo(name="all.optimizer", summary="", half=HALF, category="fusion")]
@hookimpl
def sdkpack_compressors(): return [CompressorInfo(name="all.compressor", summary="", half=HALF, precisions=("int8",))]
HALF = Half(load="a:B")
@hookimpl
def sdkpack_exporters(): yield ExporterInfo(name="all.exporter", summary="", load="a:B")
@hookimpl
def sdkpack_key_providers(): return [KeyProviderInfo(name="all.keys", summary="", load="a:B", schemes=("vault",))]
"""


def test_every_hook_is_asked_and_generators_count_as_lists(site: Site) -> None:
    site.add("all", ALL_HOOKS)
    rows = site.look()["states"]["all:all"]["rows"]
    assert rows == [
        "all.op", "all.runtime", "all.converter", "all.optimizer", "all.compressor", "all.exporter", "all.keys",
    ]  # fmt: skip
    script = (
        "from sdkpack.host.registry import Registry\nr = Registry.scan()\n"
        "print(r.operator('all.op').info.version, r.runtime('all.runtime').info.name, r.exporter('all.exporter').info.load,"
        " r.converter('all.converter').info.reads[0], r.optimizer('all.optimizer').info.category,"
        " r.compressor('all.compressor').info.precisions[0],"
        " r.key_provider('vault').info.name, r.key_provider('vault').plugin.distribution)"
    )
    assert site.run(script).stdout.split() == ["2", "all.runtime", "a:B", "a/b", "fusion", "int8", "all.keys", "all"]


def test_two_plugins_claim_one_name(site: Site) -> None:
    site.add("other", GOOD, version="2.1")
    seen = site.look()
    assert seen["found"].startswith("E503: operator 'good.double' is claimed by good 1.0 and other 2.1")
    assert "SDKPACK_PLUGINS" in seen["found"]
    assert seen["conflicts"] == ["operator 'good.double/1' is claimed by good 1.0 and other 2.1"]
    assert site.look(SDKPACK_PLUGINS="good")["found"] == "found"


def test_two_distributions_use_one_entry_point_name(site: Site) -> None:
    site.add("other", GOOD.replace("good.double", "other.double"), point="good")
    seen = site.look()
    assert seen["states"]["good:good"]["loaded"]
    assert seen["states"]["other:good"]["rows"] == ["other.double"]
    assert seen["conflicts"] == ["plugin 'good' is claimed by good 1.0 and other 1.0"]
    # The distribution's name tells them apart where the entry point's cannot.
    chosen = site.look(SDKPACK_PLUGINS="Other")["states"]
    assert chosen["other:good"]["loaded"]
    assert chosen["good:good"]["reason"] == "not in SDKPACK_PLUGINS"


def test_printing_plugins_leave_stdout_alone(site: Site) -> None:
    loud = GOOD.replace("good.double", "loud.op") + "\nprint('HELLO AT IMPORT')\n"
    site.add("loud", loud.replace("    return", "    print('HELLO IN HOOK')\n    return"))
    done = site.run()
    assert json.loads(done.stdout)["states"]["loud:loud"]["loaded"]
    assert "HELLO AT IMPORT" in done.stderr
    assert "HELLO IN HOOK" in done.stderr


def test_interrupt_at_import_is_the_users(site: Site) -> None:
    site.add("bad", "raise KeyboardInterrupt")
    done = site.run()
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr


def test_a_plugin_that_is_not_allowed_is_not_imported(site: Site) -> None:
    site.add("bad", "raise SystemExit('imported')")
    seen = site.look(SDKPACK_PLUGINS="good, vison")
    assert seen["states"]["bad:bad"]["reason"] == "not in SDKPACK_PLUGINS"
    assert seen["states"]["-:vison"]["reason"] == "named in SDKPACK_PLUGINS, but not installed"
    assert seen["states"]["sdkpack:builtin"]["loaded"]


def test_the_name_of_the_built_in_plugin_is_no_way_around_the_list(site: Site) -> None:
    site.add("bad", "raise SystemExit('imported')", point="builtin")
    assert site.look(SDKPACK_PLUGINS="good")["states"]["bad:builtin"]["reason"] == "not in SDKPACK_PLUGINS"


def configured(site: Site, text: str) -> Path:
    path = site.folder / "config" / "sdkpack" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"config = 1\n[plugins]\n{text}\n", encoding="utf-8")
    return path


def test_a_configuration_says_what_is_imported(site: Site) -> None:
    site.add("bad", "raise SystemExit('imported')")
    path = configured(site, "allow = ['Good', 'vison']")
    states = site.look()["states"]
    assert states["good:good"]["loaded"]
    assert states["bad:bad"]["reason"] == f"not in plugins.allow of {path}"
    assert states["-:vison"]["reason"] == f"named in plugins.allow of {path}, but not installed"
    assert states["sdkpack:builtin"]["loaded"]
    # A variable is for one call, and stands in the place of the list.
    assert site.look(SDKPACK_PLUGINS="")["states"]["good:good"]["reason"] == "not in SDKPACK_PLUGINS"
    other = site.folder / "other.toml"
    other.write_text("config = 1\n", encoding="utf-8")
    assert site.look(SDKPACK_CONFIG=str(other))["states"]["bad:bad"]["reason"] == "SystemExit: imported"


def test_what_is_blocked_stays_blocked(site: Site) -> None:
    site.add("bad", "raise SystemExit('imported')")
    path = configured(site, "block = ['bad']")
    for variables in ({}, {"SDKPACK_PLUGINS": "bad, good"}):
        states = site.look(**variables)["states"]
        assert states["bad:bad"]["reason"] == f"in plugins.block of {path}"
        assert states["good:good"]["loaded"]


def test_an_entry_point_is_no_way_into_the_allowed_list(site: Site) -> None:
    site.add("bad", "raise SystemExit('imported')", point="good")
    configured(site, "allow = ['good']")
    states = site.look()["states"]
    assert states["bad:good"]["reason"].startswith("not in plugins.allow")
    assert states["good:good"]["loaded"]


def test_networks_are_granted_by_name(site: Site) -> None:
    path = configured(site, "network.allow = ['acme.npu2']")
    environ = {"SDKPACK_CONFIG": str(path)}
    assert network_allowed(environ) == {"acme.npu2"}
    assert network_allowed({**environ, "SDKPACK_NETWORK": "acme.one, acme.two"}) == {"acme.one", "acme.two"}
    assert network_allowed({**environ, "SDKPACK_NETWORK": ""}) == frozenset()
    assert network_allowed({"XDG_CONFIG_HOME": "/nowhere"}) == frozenset()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("allow = 'good'", "E102", "plugins.allow"),
        ("alow = []", "E102", "plugins.alow"),
        ("allow = ['a']\nblock = ['a']", "E102", "allowed and blocked"),
        ("allow = [", "E102", "not valid TOML"),
        ("network = { allow = ['a b'] }", "E102", "plugins.network.allow[0]"),
    ],
)
def test_a_bad_configuration_is_told(site: Site, text: str, code: str, message: str) -> None:
    path = configured(site, text)
    script = """
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry
try:
    Registry.scan()
except SdkpackError as error:
    print(error.code, error.where, error.message, [problem.path + problem.message for problem in error.problems])
"""
    told = site.run(script).stdout
    assert told.startswith(f"{code} {path}")
    assert message in told


def test_a_configuration_that_is_named_must_be_there(site: Site) -> None:
    done = site.run("from sdkpack.host.registry import Registry\nRegistry.scan()", SDKPACK_CONFIG="/nowhere.toml")
    assert "cannot read the configuration /nowhere.toml: no such file or directory" in done.stderr


def test_malformed_entry_points_of_others_do_not_matter(site: Site) -> None:
    site.add("broken-text", None, entry="[console_scripts]\nnot an entry point\n[[[\n")
    assert site.look()["found"] == "found"


def test_malformed_metadata_of_a_plugin_does_not_matter(site: Site) -> None:
    site.add("bare", GOOD.replace("good.double", "bare.op"))
    (site.folder / "bare-1.0.dist-info" / "METADATA").write_text("", encoding="utf-8")
    states = site.look()["states"]
    assert states["unnamed distribution:bare"]["rows"] == ["bare.op"]


def test_an_entry_points_file_that_is_no_text_does_not_matter(site: Site) -> None:
    site.add("binary", None)
    (site.folder / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe\x00sdkpack.plugins.v1")
    assert site.look()["found"] == "found"


LOOKUPS = """
import sys
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry, load_class
r = Registry.scan()
try:
    {call}
except SdkpackError as error:
    print(error.code, error.exit_code, error, '|', error.hint)
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("r.operator('good.duble')", "E502 5 no plugin in use has an operator 'good.duble' | did you mean 'good.double'?"),
        ("r.operator('good.double', 3)", "E502 5 operator good.double/3 is not installed, only good.double/1 |"),
        ("r.runtime('zzz')", "| see what is installed: sdkpack plugins list"),
        ("load_class(r.operator('good.double'), 'good_work:Double')", "E503 5 plugin 'good': 'good.double' cannot be loaded"),
        ("load_class(r.operator('good.double'), 'good_plugin:Nothing')", "has no attribute 'Nothing'"),
        ("load_class(r.operator('good.double'), 'good_plugin:SDKPACK_API')", "SDKPACK_API is a tuple, no class"),
        ("load_class(r.operator('good.double'), 'good_exit:X')", "SystemExit: 9"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_with_the_next_step(site: Site, call: str, said: str) -> None:
    (site.folder / "good_exit.py").write_text("raise SystemExit(9)", encoding="utf-8")
    assert said in site.run(LOOKUPS.format(call=call)).stdout


def test_a_missing_name_points_at_the_plugins_that_did_not_load(site: Site) -> None:
    site.add("bad", "import no_such_module_anywhere")
    said = site.run(LOOKUPS.format(call="r.operator('good.doubel')")).stdout
    assert "did you mean 'good.double'? plugin 'bad' did not load, see: sdkpack doctor" in said


def test_named_modules_need_no_scan(site: Site) -> None:
    script = (
        "import sys, importlib.metadata\n"
        "importlib.metadata.distributions = importlib.metadata.entry_points = None\n"
        "from sdkpack.host.registry import Registry\n"
        "r = Registry.of_modules(['good_plugin', 'good_plugin', 'missing_plugin'])\n"
        "print([(s.name, s.loaded) for s in r.plugins], r.operator('good.double').info.load)"
    )
    done = site.run(script)
    assert done.stdout.strip() == "[('good_plugin', True), ('missing_plugin', False)] good_plugin.work:Double", (
        done.stderr
    )
