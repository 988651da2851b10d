"""Checks a plugin and makes a report that its vendor can publish.

`python -m sdkpack.testing.check KIND NAME PARAMS OUT` runs the conformance tests of one plugin in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import PluginMissingError, SdkpackError, StepError, UsageError
from sdkpack.host.loading import kind_of
from sdkpack.host.registry import Registered, Registry

__all__ = ["CheckReport", "check_plugin", "find_plugin"]

_CLASSES: Final = {
    "runtime": ("RuntimeConformance", "runtime"),
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
            "tests": [dict(test) for test in self.tests],
        }  # fmt: skip
        return facts | ({"coverage": dict(self.coverage)} if self.coverage else {})


def find_plugin(registry: Registry, name: str) -> Registered[Any]:
    """The plugin of any kind that has this name.

    Raises:
        PluginMissingError: there is none.
    """
    rows: list[Registered[Any]] = [
        *registry.runtimes(),
        *registry.exporters(),
        *registry.key_providers(),
        *registry.operators(),
    ]
    found = [row for row in rows if row.info.name == name]
    if not found:
        raise PluginMissingError(
            f"no plugin in use brings {name!r}", hint="see what is installed: sdkpack plugins list"
        )
    return found[-1]


def check_plugin(
    name: str, *, operators: bool = False, expected: Path | None = None, params: Mapping[str, Any] | None = None
) -> CheckReport:
    """Runs the conformance tests, and for a runtime the operator coverage where it is wanted.

    Raises:
        PluginMissingError: no plugin has this name, or pytest is not installed.
        StepError: the tests did not come to an end.
    """
    registry = Registry.scan()
    row = find_plugin(registry, name)
    kind = kind_of(row.info)
    if operators and kind != "runtime":
        raise UsageError(f"{name!r} is a {kind}: operator coverage is for runtimes")
    tests = _conformance(registry, row, kind, params or {})
    coverage = _coverage(name, expected) if operators else {}
    return CheckReport(
        name=name, kind=kind, distribution=row.plugin.distribution, version=row.plugin.version,
        api=row.plugin.api or (0, 0), tests=tests, coverage=coverage,
    )  # fmt: skip


def _conformance(
    registry: Registry, row: Registered[Any], kind: str, params: Mapping[str, Any]
) -> tuple[Mapping[str, str], ...]:
    class_name, attribute = _CLASSES[kind]
    values: dict[str, Any] = {attribute: row.info.schemes[0] if kind == "key provider" else row.info.name}
    if kind == "exporter":
        whole = [other.info.name for other in registry.runtimes() if other.info.compiler and other.info.runner]
        values["runtime"] = whole[0] if whole else ""
    if params:
        values["params"] = dict(params)
    with tempfile.TemporaryDirectory(prefix="sdkpack-check-") as folder:
        body = "".join(f"    {key} = {value!r}\n" for key, value in values.items())
        test = Path(folder) / "test_conformance.py"
        test.write_text(
            f"from sdkpack.testing import {class_name}\n\n\nclass TestPlugin({class_name}):\n{body}", encoding="utf-8"
        )
        out = Path(folder) / "out.json"
        text = _run([sys.executable, "-m", "sdkpack.testing.check", str(test), str(out)], cwd=folder)
        if not out.exists():
            raise StepError(f"the conformance tests of {row.info.name!r} came to no end: {text[-2000:]}")
        found: list[dict[str, str]] = json.loads(out.read_bytes())
    return tuple(found)


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


def _run(arguments: list[str], cwd: str) -> str:
    result = subprocess.run(
        arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LIMIT_S, check=False, text=True
    )
    return result.stdout


class _Collector:
    """A pytest plugin that keeps what became of each test."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.when == "call" or report.outcome != "passed":
            self.tests[name] = {"name": name, "outcome": report.outcome, "reason": self._reason(report)}

    def _reason(self, report: Any) -> str:
        if report.outcome == "skipped":
            return str(report.longrepr[2]).removeprefix("Skipped: ")
        crash = getattr(report.longrepr, "reprcrash", None)
        return str(crash.message)[:2000] if crash is not None else ""


def _main(test: str, out: str) -> int:
    try:
        import pytest
    except ImportError:
        Path(out).write_text("[]", encoding="utf-8")
        return 1
    collector = _Collector()
    pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(Path(test).parent), test],
                plugins=[collector])  # fmt: skip
    Path(out).write_text(json.dumps(list(collector.tests.values())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
