"""`python -m sdkpack.testing.coverage RUNTIME [--expected FILE] [--precision P] [--workers N] > report.json`

A process of its own: it forks, so it must not have threads, nor have loaded the runtime.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry
from sdkpack.plugin.runtime import Probe
from sdkpack.testing.coverage.attempt import Bench
from sdkpack.testing.coverage.cases import Case, load_cases
from sdkpack.testing.coverage.expected import Expectations
from sdkpack.testing.coverage.isolation import Died, run_isolated
from sdkpack.testing.coverage.outcome import Outcome
from sdkpack.testing.coverage.report import CoverageReport

__all__ = ["main"]

_CASE_LIMIT_S: Final = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report to stdout; exit code 0 however the cases ended, 1 where the runtime cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m sdkpack.testing.coverage", description="Operator coverage.")
    parser.add_argument("runtime")
    parser.add_argument("--expected", type=Path, help="a file of expected failures")
    parser.add_argument("--precision", default="", help="by default the first that the runtime names")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cases", default="", help="only cases whose names contain this")
    wish = parser.parse_args(arguments)
    try:
        expectations = Expectations.read(wish.expected) if wish.expected else Expectations()
        report = _run(wish.runtime, expectations, wish.precision, wish.workers, wish.cases)
    except SdkpackError as error:
        print(json.dumps({"error": error.as_dict()}))  # noqa: T201 - this is a program
        return 1
    print(json.dumps(report.as_json(), ensure_ascii=False))  # noqa: T201
    return 0


def _run(runtime: str, expectations: Expectations, precision: str, workers: int, only: str) -> CoverageReport:
    begin = time.perf_counter()
    cases = [case for case in load_cases() if only in case.name]
    outcomes: list[Outcome] = []
    probe = {**_probed(runtime)}
    probe["precision"] = precision or probe["precision"]
    if expectations.opsets is None and probe["opsets"]:
        # What the descriptor says counts where the file is silent.
        expectations = replace(expectations, opsets=tuple(probe["opsets"]))

    def prepare() -> Callable[[int], dict[str, Any]]:
        registry = Registry.scan()
        row = registry.runtime(runtime)
        wanted = probe["precision"]
        bench = Bench(runtime=row, registry=registry, opsets=expectations.opsets, precision=wanted)
        compiler = bench.compiler()
        return lambda number: bench.attempt(cases[number], compiler).as_json()

    for number, result in run_isolated(prepare, range(len(cases)), workers=workers, limit_s=_CASE_LIMIT_S):
        outcome = _died(cases[number], result) if isinstance(result, Died) else Outcome.of_json(result)
        outcomes.append(expectations.classed(outcome))
    return CoverageReport(
        runtime=runtime, fingerprint=probe["fingerprint"], precision=probe["precision"], expectations=expectations,
        outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.case)), seconds=time.perf_counter() - begin,
        versions={name: importlib.metadata.version(name) for name in ("onnx", "sdkpack")},
    )  # fmt: skip


def _probed(runtime: str) -> Mapping[str, Any]:
    """The toolchain's fingerprint, asked for in a child: this process must not load it.

    Raises:
        SdkpackError: it cannot be tried here.
    """

    def prepare() -> Callable[[int], dict[str, Any]]:
        return lambda _: _facts(runtime)

    ((_, result),) = run_isolated(prepare, (0,), workers=1, limit_s=_CASE_LIMIT_S)
    if isinstance(result, Died):
        raise SdkpackError(f"runtime {runtime!r} cannot be probed: {result.reason}")
    if "message" in result:
        raise SdkpackError(result["message"], hint=result.get("hint", ""))
    return result


def _facts(runtime: str) -> dict[str, Any]:
    try:
        registry = Registry.scan()
        row = registry.runtime(runtime)
        compiler = Bench(runtime=row, registry=registry).compiler()
        probe: Probe = compiler.probe()
        return {"fingerprint": probe.fingerprint, "precision": row.info.precisions[0], "opsets": row.info.opsets}
    except SdkpackError as error:
        return error.as_dict()


def _died(case: Case, died: Died) -> Outcome:
    return Outcome(case=case.name, result="error", operators=(), opset=0, reason=died.reason)


if __name__ == "__main__":
    sys.exit(main())
