"""Opens what a descriptor names, in this process or outside of it, behind the same Protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from sdkpack.errors import PluginBrokenError, PluginError, SdkpackError, StepError
from sdkpack.host.choices import network_allowed
from sdkpack.host.environments import Environment, Environments, default_environments
from sdkpack.host.places import Place
from sdkpack.host.registry import Registered, load_class
from sdkpack.host.runners import RemoteRunner
from sdkpack.host.sandbox import Limits
from sdkpack.host.timed import TimedTool
from sdkpack.host.workers import Job, run_job, typed
from sdkpack.plugin.compressor import CompressRequest, CompressResult
from sdkpack.plugin.context import StepContext
from sdkpack.plugin.converter import (
    ConvertRequest,
    ConvertResult,
    EvaluateRequest,
    EvaluateResult,
    SniffRequest,
    SniffResult,
)
from sdkpack.plugin.info import Half, RuntimeInfo
from sdkpack.plugin.optimizer import OptimizeRequest, OptimizeResult
from sdkpack.plugin.runtime import CompileRequest, CompileResult, ModelFile, Probe

__all__ = ["HostContext", "RemoteTool", "ToolHost"]

ResultT = TypeVar("ResultT")

_PROBE_LIMIT_S: Final = 60.0


@runtime_checkable
class HostContext(StepContext, Protocol):
    """What a job needs of its step beside what plugins are shown."""

    @property
    def log_file(self) -> Path: ...

    def is_cancelled(self) -> bool: ...

    def isolated(self, facts: Mapping[str, str]) -> None:
        """Remembers what was enforced around a toolchain, for the report."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolHost:
    """Where toolchains run on this machine.

    Args:
        environ: the user's variables; a toolchain gets none of them.
        tell: told what takes long: the build of an environment.
        cancelled: asked meanwhile.
        progress: told meanwhile of what, how far (None: nobody knows), and at what that is.
    """

    environ: Mapping[str, str]
    tell: Callable[[str], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False
    progress: Callable[[str, float | None, str], None] = lambda *_: None
    environments: Environments = field(init=False)

    def __post_init__(self) -> None:
        made = Environments(default_environments(self.environ), self.environ)
        object.__setattr__(self, "environments", made)

    def open(self, row: Registered[Any], half: Half) -> Any:
        """The object that does the work of a descriptor: a Converter, Optimizer, Compressor or Compiler.

        Raises:
            PluginError: its environment cannot be built, or its program is missing.
            PluginBrokenError: its class cannot be loaded.
        """
        if isinstance(row.info, RuntimeInfo) and half is row.info.compiler and row.info.runner is not None:
            # What it makes is run for the comparison, which would be too late to find nothing to run it with.
            self._build(row, row.info.runner)
        if half.isolation == "in-process":
            return TimedTool(load_class(row, half.load)(), name=row.info.name, limit_s=row.info.time_limit_s)
        environment = self._build(row, half)
        return RemoteTool(row=row, place=Place.of(row, half, environment, self.environ), host=self)

    def runner(self, row: Registered[RuntimeInfo], half: Half) -> RemoteRunner:
        """The runner half of a runtime that works outside of this process. Nothing is built or started for it.

        Raises:
            PluginError: its environment is not there yet, or its program is missing.
        """
        environment = None
        if half.environment is not None:
            environment = self.environments.find(half.environment)
            if environment is None:
                # Who opens a bundle expects no installer to run, and no network to be asked.
                raise PluginError(
                    f"the environment of runtime {row.info.name!r} is not built yet",
                    hint=f"sdkpack plugins env build {row.info.name}",
                )
        return RemoteRunner(
            name=row.info.name, place=Place.of(row, half, environment, self.environ),
            environments=self.environments, time_limit_s=row.info.time_limit_s, network=self.grants_network(row),
        )  # fmt: skip

    def _build(self, row: Registered[Any], half: Half) -> Environment | None:
        if half.environment is None:
            return None
        return self.environments.ensure(
            half.environment, plugin=row.info.name, tell=self.tell, cancelled=self.cancelled,
            progress=lambda text: self.progress(f"environment of {row.info.name}", None, text),
        )  # fmt: skip

    def grants_network(self, row: Registered[Any]) -> bool:
        """A plugin has to ask, and the user to agree.

        Raises:
            DocumentError: the user's configuration is not valid.
        """
        return "network" in row.info.capabilities and row.info.name in network_allowed(self.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTool:
    """A class or program outside of this process, as the Protocol that it implements. Safe for several threads."""

    row: Registered[Any]
    place: Place
    host: ToolHost

    # The Protocols ------------------------------------------------------------------------------------------------
    def probe(self) -> Probe:
        """What the toolchain says of itself, with its environment or program as part of the fingerprint."""
        try:
            said = self._call_alone("probe", None, Probe, "the toolchain", _PROBE_LIMIT_S)
        except (StepError, PluginBrokenError) as error:
            return Probe(ok=False, missing=error.message, mend=error.hint)
        return Probe(
            ok=said.ok,
            fingerprint=f"{said.fingerprint}; {self.place.fingerprint}" if said.fingerprint else "",
            missing=said.missing,
            mend=said.mend,
        )

    def sniff(self, request: SniffRequest) -> SniffResult:
        return self._call_alone("sniff", request, SniffResult, request.source.name, _PROBE_LIMIT_S)

    def convert(self, request: ConvertRequest, context: StepContext) -> ConvertResult:
        return self._call("convert", request, context, ConvertResult, request.name)

    def evaluate(self, request: EvaluateRequest, context: StepContext) -> EvaluateResult:
        return self._call("evaluate", request, context, EvaluateResult, request.conversion.name)

    def optimize(self, request: OptimizeRequest, context: StepContext) -> OptimizeResult:
        return self._call("optimize", request, context, OptimizeResult, request.model.name)

    def compress(self, request: CompressRequest, context: StepContext) -> CompressResult:
        return self._call("compress", request, context, CompressResult, request.model.name)

    def compile(self, request: CompileRequest, context: StepContext) -> CompileResult:
        return self._call("compile", request, context, CompileResult, ", ".join(model.name for model in request.models))

    # Inner --------------------------------------------------------------------------------------------------------
    def _call(self, method: str, request: object, context: StepContext, kind: type[ResultT], subject: str) -> ResultT:
        if not isinstance(context, HostContext):
            raise TypeError("a job needs the context of a build step")
        folder = context.work / f"job-{len(list(context.work.iterdir()))}"
        job = self._job(method, request, subject, self.row.info.time_limit_s, context.seed)
        return self._run(job, folder, kind, context.log_file, context)

    def _call_alone(self, method: str, request: object, kind: type[ResultT], subject: str, limit_s: float) -> ResultT:
        """A method without a context; its folder and log are gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="sdkpack-") as parent:
            job = self._job(method, request, subject, min(limit_s, self.row.info.time_limit_s), None)
            log = Path(parent) / "log"
            try:
                return self._run(job, Path(parent) / "job", kind, log, None)
            except SdkpackError as error:
                # The folder goes with its log: what it says last stands in the message.
                error.hint = error.hint.replace(f"see its log: {log}", "").rstrip("; ")
                raise

    def _run(self, job: Job, folder: Path, kind: type[ResultT], log: Path, context: HostContext | None) -> ResultT:
        if self.place.environment is None:
            result = self._started(job, folder, log, context)
        else:
            with self.host.environments.using(self.place.environment):
                result = self._started(job, folder, log, context)
        if context is not None:
            context.isolated(result.enforced)
        return typed(result, kind, job)

    def _started(self, job: Job, folder: Path, log: Path, context: HostContext | None) -> Any:
        if context is None:
            return run_job(job, folder, log=log, cancelled=self.host.cancelled)
        return run_job(job, folder, log=log, progress=context.progress, cancelled=context.is_cancelled)

    def _job(self, method: str, request: object, subject: str, limit_s: float, seed: int | None) -> Job:
        limits = Limits.default(
            memory_bytes=self.place.half.memory_limit_bytes, disk_bytes=self.place.half.disk_limit_bytes, time_s=limit_s
        )
        return Job(
            plugin=self.row.info.name,
            subject=subject,
            method=method,
            request=request,
            context=seed is not None,
            load=self.place.half.load,
            packages=self.place.packages,
            command=self.place.command,
            python=self.place.python,
            readable=(*self.place.readable, *_beside_models(request)),
            search=self.place.search,
            limits=limits,
            network=self.host.grants_network(self.row),
            seed=seed or 0,
        )


def _beside_models(request: object) -> tuple[Path, ...]:
    """External data stands beside a model that the core wrote; an author's own folder may hold keys, and stays shut."""
    models: tuple[Any, ...] = ()
    if isinstance(request, CompileRequest):
        models = request.models
    elif isinstance(request, OptimizeRequest | CompressRequest):
        models = (request.model,)
    return tuple(model.path.parent for model in models if isinstance(model, ModelFile))
