"""Checks a plugin and makes a report that its vendor can publish.

`python -m sdkpack.testing.check TESTS OUT [CLASS ATTRIBUTE NAME]` runs conformance tests in a process of their own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import PluginMissingError, SdkpackError, StepError, UsageError
from sdkpack.host.deprecated import deprecated_uses
from sdkpack.host.loading import kind_of
from sdkpack.host.registry import Registered, Registry

__all__ = ["CheckReport", "CheckWish", "check_plugin", "find_plugin"]

_CLASSES: Final = {
    "runtime": ("RuntimeConformance", "runtime"),
    "converter": ("ConverterConformance", "converter"),
    "optimizer": ("OptimizerConformance", "optimizer"),
    "compressor": ("CompressorConformance", "compressor"),
    "operator": ("OperatorConformance", "operator"),
    "exporter": ("ExporterConformance", "exporter"),
    "key provider": ("KeyProviderConformance", "scheme"),
}
_LIMIT_S: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was found."""

    name: str
    kind: str
    distribution: str
    version: str
    api: tuple[int, int]
    tests: tuple[Mapping[str, str], ...]
    """`name`, `outcome` (`passed`, `failed`, `skipped`), `reason`."""
    deprecated: tuple[str, ...] = ()
    """What the plugin uses that is to go: no failure."""
    coverage: Mapping[str, Any] = field(default_factory=dict)
    """As `sdkpack.testing.coverage` reports it; empty where it was not asked for."""

    def count(self, outcome: str) -> int:
        return sum(test["outcome"] == outcome for test in self.tests)

    @property
    def passed(self) -> bool:
        """Whether no test failed, some passed, and the coverage is as expected where a file says what is."""
        return not self.count("failed") and bool(self.count("passed")) and self.coverage.get("as_expected", True)

    def as_json(self) -> dict[str, Any]:
        facts = {
            "check": 1, "plugin": self.name, "kind": self.kind, "distribution": self.distribution,
            "version": self.version, "api": list(self.api), "passed": self.passed,
            "conformance": {outcome: self.count(outcome) for outcome in ("passed", "failed", "skipped")},
            "tests": [dict(test) for test in self.tests], "deprecated": list(self.deprecated),
        }  # fmt: skip
        return facts | ({"coverage": dict(self.coverage)} if self.coverage else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckWish:
    """What is to be checked, and with what."""

    operators: bool = False
    """Also the operator coverage of a runtime."""
    expected: Path | None = None
    """A file of expected failures, for that."""
    params: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    """Where plugins of several kinds have the name."""
    source: Path | None = None
    """For a converter: a file or folder of its format."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Further files of that source, by role."""
    allow_code: bool = False
    """Code that the source brings may run."""
    tests: Path | None = None
    """A file or folder with the plugin's own test classes, in the place of one that is made up."""


def find_plugin(registry: Registry, name: str, kind: str = "") -> Registered[Any]:
    """The plugin that has this name.

    Raises:
        PluginMissingError: there is none.
        UsageError: there are several of different kinds, and `kind` says none.
    """
    rows: list[Registered[Any]] = [
        *registry.runtimes(),
        *registry.converters(),
        *registry.optimizers(),
        *registry.compressors(),
        *registry.exporters(),
        *registry.key_providers(),
        *registry.operators(),
    ]
    found = [row for row in rows if row.info.name == name and kind in ("", kind_of(row.info))]
    if not found:
        what = f"a {kind} {name!r}" if kind else repr(name)
        raise PluginMissingError(f"no plugin in use brings {what}", hint="see what is installed: sdkpack plugins list")
    kinds = sorted({kind_of(row.info) for row in found})
    if len(kinds) > 1:
        raise UsageError(f"{name!r} is the name of several: {' and '.join(kinds)}", hint=f"say --kind {kinds[0]!r}")
    return found[-1]


def check_plugin(name: str, wish: CheckWish | None = None) -> CheckReport:
    """Runs the conformance tests, and for a runtime the operator coverage where it is wanted.

    Raises:
        PluginMissingError: no plugin has this name, or pytest is not installed.
        UsageError: what is asked for is for plugins of another kind, or there is nothing to check it with.
        StepError: the tests did not come to an end.
    """
    wish = wish or CheckWish()
    if importlib.util.find_spec("pytest") is None:
        raise PluginMissingError("the conformance kit is not installed", hint="pip install 'sdkpack[testing]'")
    registry = Registry.scan()
    row = find_plugin(registry, name, wish.kind)
    kind = kind_of(row.info)
    _check_wish(name, kind, wish)
    tests = _conformance(registry, row, kind, wish)
    coverage = _coverage(name, wish.expected) if wish.operators else {}
    return CheckReport(
        name=name, kind=kind, distribution=row.plugin.distribution, version=row.plugin.version,
        api=row.plugin.api or (0, 0), tests=tests, deprecated=deprecated_uses(row.plugin), coverage=coverage,
    )  # fmt: skip


def _check_wish(name: str, kind: str, wish: CheckWish) -> None:
    if wish.operators and kind != "runtime":
        raise UsageError(f"{name!r} is a {kind}: operator coverage is for runtimes")
    if (wish.source or wish.files or wish.allow_code) and kind != "converter":
        raise UsageError(f"{name!r} is a {kind}: sources are for converters")
    if kind == "converter" and not (wish.source or wish.tests):
        # Without one nothing would be converted, and the report would look as if something had been.
        raise UsageError(
            f"what converter {name!r} reads is not at hand",
            hint="give a file of its format (--source FILE), or the folder of its tests (--tests DIR)",
        )
    if wish.source and wish.tests:
        raise UsageError("--tests brings sources of its own", hint="leave out --source")


def _conformance(registry: Registry, row: Registered[Any], kind: str, wish: CheckWish) -> tuple[Mapping[str, str], ...]:
    class_name, attribute = _CLASSES[kind]
    wanted = row.info.schemes[0] if kind == "key provider" else row.info.name
    with tempfile.TemporaryDirectory(prefix="sdkpack-check-") as folder:
        out = Path(folder) / "out.json"
        arguments = [sys.executable, "-m", "sdkpack.testing.check"]
        if wish.tests:
            # In the user's folder: tests import each other from there.
            text = _run([*arguments, str(wish.tests), str(out), class_name, attribute, wanted], cwd=None)
        else:
            test = Path(folder) / "test_conformance.py"
            test.write_text(_made_up(registry, kind, wanted, wish), encoding="utf-8")
            text = _run([*arguments, str(test), str(out)], cwd=folder)
        if not out.exists():
            raise StepError(f"the conformance tests of {row.info.name!r} came to no end: {text[-2000:]}")
        found: list[dict[str, str]] = json.loads(out.read_bytes())
    if wish.tests and not found:
        raise UsageError(
            f"'{wish.tests}' has no {class_name} with {attribute} = {wanted!r} that could be run",
            hint=f"see: python -m pytest {wish.tests}",
        )
    return tuple(found)


def _made_up(registry: Registry, kind: str, wanted: str, wish: CheckWish) -> str:
    """The test class that the plugin's author would write."""
    class_name, attribute = _CLASSES[kind]
    values: dict[str, Any] = {attribute: wanted}
    if kind == "exporter":
        whole = [other.info.name for other in registry.runtimes() if other.info.compiler and other.info.runner]
        values["runtime"] = whole[0] if whole else ""
    if wish.params:
        values["params"] = dict(wish.params)
    body = "".join(f"    {key} = {value!r}\n" for key, value in values.items())
    if wish.source:
        files = ", ".join(f"{role!r}: Path({str(path.resolve())!r})" for role, path in wish.files.items())
        body += (
            "\n    def sources(self, folder):\n"
            f"        source = Path({str(wish.source.resolve())!r})\n"
            f"        return [SourceCase(source=source, files={{{files}}}, allow_code={wish.allow_code})]\n"
        )
    return (
        "from pathlib import Path\n\n"
        f"from sdkpack.testing import SourceCase, {class_name}\n\n\nclass TestPlugin({class_name}):\n{body}"
    )


def _coverage(name: str, expected: Path | None) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "sdkpack.testing.coverage", name]
    arguments += ["--expected", str(expected)] if expected else []
    result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_LIMIT_S, check=False)
    try:
        report: dict[str, Any] = json.loads(result.stdout)
    except ValueError as error:
        raise StepError(f"the operator coverage of {name!r} came to no end") from error
    if "error" in report:
        raise SdkpackError(report["error"]["message"], hint=report["error"].get("hint", ""))
    if not expected:
        report.pop("as_expected")  # nobody said what is
    return report


def _run(arguments: list[str], cwd: str | None) -> str:
    result = subprocess.run(
        arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LIMIT_S, check=False, text=True
    )
    return result.stdout


class _Collector:
    """A pytest plugin that keeps what became of each test, and leaves out what is no test of the plugin."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self.tests: dict[str, dict[str, str]] = {}
        self._wanted = wanted

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        if not self._wanted:
            return
        import sdkpack.testing

        class_name, attribute, name = self._wanted
        base = getattr(sdkpack.testing, class_name)
        mine = [item for item in items if _tests(getattr(item, "cls", None), base, attribute, name)]
        config.hook.pytest_deselected(items=[item for item in items if item not in mine])
        items[:] = mine

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._keep(report.nodeid or "collection", report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._keep(report.nodeid.rpartition("::")[2], report)

    def _keep(self, name: str, report: Any) -> None:
        self.tests[report.nodeid] = {"name": name, "outcome": report.outcome, "reason": self._reason(report)}

    def _reason(self, report: Any) -> str:
        if report.outcome == "skipped":
            return str(report.longrepr[2]).removeprefix("Skipped: ")
        crash = getattr(report.longrepr, "reprcrash", None)
        return str(crash.message if crash is not None else report.longrepr or "")[:2000]


def _tests(cls: type[Any] | None, base: type[Any], attribute: str, name: str) -> bool:
    return cls is not None and issubclass(cls, base) and getattr(cls, attribute, None) == name


def _main(test: str, out: str, *wanted: str) -> int:
    import pytest

    collector = _Collector(wanted)
    # What is made up has no configuration; a plugin's own tests have theirs.
    alone = [] if wanted else ["-c", "/dev/null", "--rootdir", str(Path(test).parent)]
    pytest.main(["-q", "-p", "no:cacheprovider", *alone, test], plugins=[collector])
    Path(out).write_text(json.dumps(list(collector.tests.values())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
