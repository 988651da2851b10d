"""What runs two models to compare them: a runtime that computes as ONNX defines, or ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sdkpack.build.context import BuildContext
from sdkpack.build.guard.candidate import Candidate
from sdkpack.build.steps.compiling import Toolchain, find_toolchain
from sdkpack.build.steps.reference import NotComparableError, reference_name, run_model
from sdkpack.build.steps.samples import Arrays
from sdkpack.build.steps.variants import open_compiled
from sdkpack.errors import SdkpackError, StepError
from sdkpack.host.params import ParamSchema
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost
from sdkpack.plugin.runtime import CompileRequest

__all__ = ["Judge", "LazyJudge", "ReferenceJudge", "Run", "RuntimeJudge", "find_judge"]

Run = Callable[[Arrays], Arrays]

_COMPARE: Final = "compare"
"""The capability of runtimes that may judge."""


class Judge(Protocol):
    """Runs models."""

    @property
    def name(self) -> str:
        """For evidence: what it is, and which version."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another one, other answers."""
        ...

    def opened(self, candidate: Candidate, context: BuildContext) -> Any:
        """A context manager that gives a `Run`.

        Raises:
            StepError: the model cannot be run.
        """
        ...


@dataclass(frozen=True, slots=True)
class RuntimeJudge:
    """An installed runtime."""

    toolchain: Toolchain
    registry: Registry

    @property
    def name(self) -> str:
        return self.toolchain.name

    @property
    def fingerprint(self) -> str:
        return self.toolchain.fingerprint

    @contextmanager
    def opened(self, candidate: Candidate, context: BuildContext) -> Iterator[Run]:
        params = ParamSchema(self.toolchain.row.info).instance({})
        request = CompileRequest(models=(candidate.model,), target="compare", params=params)
        with self.toolchain.lock:
            [compiled] = self.toolchain.compiler.compile(request, context.inside("compiled")).models
        with closing(open_compiled(compiled, candidate.facts, self.registry)) as loaded:
            yield loaded


@dataclass(frozen=True, slots=True)
class ReferenceJudge:
    """ONNX's reference implementation: shares nothing with a runtime, and is slow."""

    limit_s: float = 120.0
    name: str = field(default_factory=reference_name)

    @property
    def fingerprint(self) -> str:
        return self.name

    @contextmanager
    def opened(self, candidate: Candidate, context: BuildContext) -> Iterator[Run]:
        operators = [(use.domain, use.name) for use in candidate.facts.operators]

        def run(arrays: Arrays) -> Arrays:
            try:
                return run_model(
                    _whole(candidate), arrays, operators=operators, weights_bytes=candidate.facts.parameter_bytes,
                    limit_s=self.limit_s, progress=context.progress,
                )  # fmt: skip
            except NotComparableError as error:
                raise StepError(str(error)) from error

        yield run


@dataclass(slots=True)
class LazyJudge:
    """The judge of one build, looked for when it is first needed."""

    registry: Registry
    tools: ToolHost
    _found: Judge | None = None

    def __call__(self) -> Judge:
        self._found = self._found or find_judge(self.registry, self.tools)
        return self._found


def find_judge(registry: Registry, tools: ToolHost) -> Judge:
    """The first runtime here that computes as ONNX defines; the reference where there is none."""
    for row in _able(registry):
        try:
            return RuntimeJudge(find_toolchain(row, registry, tools), registry)
        except SdkpackError:
            continue  # its toolchain is not here
    return ReferenceJudge()


def _able(registry: Registry) -> Sequence[str]:
    return [
        row.info.name
        for row in registry.runtimes()
        if _COMPARE in row.info.capabilities
        and all(half is not None and half.isolation == "in-process" for half in (row.info.compiler, row.info.runner))
    ]


def _whole(candidate: Candidate) -> Callable[[], Any]:
    """The model with its weights inside; read when it is needed."""

    def read() -> Any:
        import onnx

        # The candidate was checked: its external data is its own.
        return onnx.load(str(candidate.model.path))

    return read
