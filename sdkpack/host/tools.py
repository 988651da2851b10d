"""Opens what a descriptor names, in this process or outside of it, behind the same Protocol."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from sdkpack.errors import PluginBrokenError, PluginError, SdkpackError, StepError
from sdkpack.host.environments import Environment, Environments, default_environments
from sdkpack.host.registry import Registered, load_class
from sdkpack.host.sandbox import Limits
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
from sdkpack.plugin.info import Half
from sdkpack.plugin.optimizer import OptimizeRequest, OptimizeResult
from sdkpack.plugin.runtime import CompileRequest, CompileResult, ModelFile, Probe

__all__ = ["GRANTS", "HostContext", "RemoteTool", "ToolHost"]

ResultT = TypeVar("ResultT")

GRANTS: Final = "SDKPACK_NETWORK"
"""The user's variable: names of plugins that may use the network, separated by commas."""

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
    """

    environ: Mapping[str, str]
    tell: Callable[[str], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False
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
        if half.isolation == "in-process":
            return load_class(row, half.load)()
        environment = None
        if half.environment is not None:
            environment = self.environments.ensure(
                half.environment, plugin=row.info.name, tell=self.tell, cancelled=self.cancelled
            )
        command = _command(row, half, environment, self.environ)
        return RemoteTool(row=row, half=half, environment=environment, command=command, host=self)

    def grants_network(self, row: Registered[Any]) -> bool:
        """A plugin has to ask, and the user to agree."""
        granted = {name.strip() for name in self.environ.get(GRANTS, "").split(",")}
        return "network" in row.info.capabilities and row.info.name in granted


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTool:
    """A class or program outside of this process, as the Protocol that it implements. Safe for several threads."""

    row: Registered[Any]
    half: Half
    environment: Environment | None
    command: tuple[str, ...]
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
            fingerprint=f"{said.fingerprint}; {self._own_fingerprint()}" if said.fingerprint else "",
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
        if self.environment is None:
            result = self._started(job, folder, log, context)
        else:
            with self.host.environments.using(self.environment):
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
            memory_bytes=self.half.memory_limit_bytes, disk_bytes=self.half.disk_limit_bytes, time_s=limit_s
        )
        return Job(
            plugin=self.row.info.name,
            subject=subject,
            method=method,
            request=request,
            context=seed is not None,
            load=self.half.load,
            packages=_packages(self.half.load) if self.half.load else {},
            command=self.command,
            python=self.environment.python if self.environment else None,
            readable=(*self._readable(), *_beside_models(request)),
            search=self._search(),
            limits=limits,
            network=self.host.grants_network(self.row),
            seed=seed or 0,
        )

    def _search(self) -> tuple[Path, ...]:
        if self.environment is not None:
            return (self.environment.folder / "bin",)
        # What a user installed may be a script, with the machine's programs in it.
        return (Path(self.command[0]).parent, Path("/usr/bin"), Path("/bin"))

    def _readable(self) -> tuple[Path, ...]:
        if self.environment is not None:
            return self.environment.readable
        program = Path(self.command[0]).resolve()
        # .../bin/tool comes with .../lib and .../share; a tool that lies in a home comes alone.
        prefix = program.parent.parent if program.parent.name == "bin" else program.parent
        home = Path(self.host.environ.get("HOME") or Path.home()).resolve()
        return (program,) if home.is_relative_to(prefix) or len(prefix.parts) < 3 else (prefix, program)

    def _own_fingerprint(self) -> str:
        if self.environment is not None:
            return self.environment.fingerprint
        with Path(self.command[0]).open("rb") as file:
            return f"{Path(self.command[0]).name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _command(
    row: Registered[Any], half: Half, environment: Environment | None, environ: Mapping[str, str]
) -> tuple[str, ...]:
    if not half.command:
        return ()
    path = str(environment.folder / "bin") if environment else environ.get("PATH", os.defpath)
    program = shutil.which(half.command[0], path=path)
    if program is None:
        place = f"environment {environment.name!r}" if environment else "the PATH"
        hint = "it is not part of the plugin's requirements" if environment else "install it, as its vendor says"
        raise PluginError(f"{row.info.name!r} needs the program {half.command[0]!r}, not found in {place}", hint=hint)
    return (program, *half.command[1:])


def _packages(load: str) -> dict[str, Path]:
    """The class's own top-level package and what the plugin API consists of, each by the folder that holds it.

    Hooks need pluggy; a small plugin has its class in the module of its hooks.
    """
    names = (load.partition(":")[0].partition(".")[0], "sdkpack", "sdkpack_job", "pluggy")
    return {name: _folder_of(name) for name in names}


def _folder_of(name: str) -> Path:
    loaded = sys.modules.get(name)
    # Finding a top-level name imports nothing.
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if locations:
        return Path(locations[0]).parent
    if spec is not None and spec.origin:
        return Path(spec.origin).parent
    raise PluginBrokenError(f"package {name!r} of a plugin cannot be found", hint="reinstall the plugin")


def _beside_models(request: object) -> tuple[Path, ...]:
    """External data stands beside a model that the core wrote; an author's own folder may hold keys, and stays shut."""
    models: tuple[Any, ...] = ()
    if isinstance(request, CompileRequest):
        models = request.models
    elif isinstance(request, OptimizeRequest | CompressRequest):
        models = (request.model,)
    return tuple(model.path.parent for model in models if isinstance(model, ModelFile))
