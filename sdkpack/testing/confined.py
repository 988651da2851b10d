"""`python -m sdkpack.testing.confined < job.json`: one piece of a plugin's work, watched, in a process of its own.

An audit hook sees what Python code writes and which sockets it makes; what native code writes shows in HOME, TMPDIR and
the current folder, which the caller made empty. Jobs:

* `probe`: a toolchain, with some modules made impossible to import;
* `call`: one method of a converter, optimizer or compressor, everything that is written or connected to;
* `sources`: damaged sources converted, one after the other;
* `compile`: a model, as `call`;
* `damaged`: the compiled model opened with each of its files cut or emptied; a crash ends this process alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import SdkpackError

__all__ = ["main"]

_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MADE: Final = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate"}
_SOCKETS: Final = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}


class _Watch:
    """Sees writes and sockets while it is on. An audit hook cannot be taken away, so it is switched off instead."""

    def __init__(self, *, allowed: Sequence[Path]) -> None:
        self.on = False
        self.writes: list[str] = []
        self.sockets: list[str] = []
        self._allowed = tuple(str(path.resolve()) for path in (*allowed, Path("/dev"), Path("/proc")))
        sys.addaudithook(self._event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if (event == "open" and isinstance(args[2], int) and args[2] & _WRITE) or event in _MADE:
            self._written(args[0])
        elif event in _SOCKETS:
            self.sockets.append(f"{event} {args[1:]!r}"[:200])

    def _written(self, path: Any) -> None:
        if isinstance(path, int):
            return
        whole = os.path.realpath(os.fsdecode(path))
        if not whole.startswith(self._allowed):
            self.writes.append(whole)


class _Without:
    """A finder of modules and distributions that does not find some: as if they were not installed."""

    def __init__(self, finder: Any, names: frozenset[str], distributions: frozenset[str]) -> None:
        self._finder, self._names, self._distributions = finder, names, distributions

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname.partition(".")[0] in self._names else self._finder.find_spec(fullname, path, target)

    def find_distributions(self, *arguments: Any, **more: Any) -> Iterator[Any]:
        find = getattr(self._finder, "find_distributions", lambda *_, **__: ())
        for distribution in find(*arguments, **more):
            if _plain(distribution.metadata["Name"] or "") not in self._distributions:
                yield distribution

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Reads a job from stdin, writes its result to stdout."""
    job = json.load(sys.stdin)
    out = os.dup(1)
    os.dup2(2, 1)  # what a toolchain prints is no result
    work = {"probe": _probe, "call": _call, "sources": _sources, "compile": _compile, "damaged": _damaged}
    result = work[job["do"]](job)
    os.write(out, json.dumps(result).encode())
    return 0


def _probe(job: Mapping[str, Any]) -> dict[str, Any]:
    from sdkpack.host.registry import Registry, load_class

    row, half = _found(Registry.scan(), job)
    modules = frozenset(job["blocked"])
    owners = importlib.metadata.packages_distributions()
    distributions = frozenset(_plain(owner) for module in modules for owner in owners.get(module, ()))
    sys.meta_path[:] = [_Without(finder, modules, distributions) for finder in sys.meta_path]
    try:
        probe = load_class(row, half.load)().probe()
    except SdkpackError as error:
        return {"raised": "", "ok": False, "missing": error.message, "mend": error.hint}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}
    return {"raised": "", "ok": probe.ok, "missing": probe.missing, "mend": probe.mend}


def _found(registry: Any, job: Mapping[str, Any]) -> tuple[Any, Any]:
    """The descriptor that a job names, and the half that works on the build machine."""
    row = getattr(registry, job["kind"])(job["name"])
    return row, row.info.compiler if job["kind"] == "runtime" else row.info.half


def _call(job: Mapping[str, Any]) -> dict[str, Any]:
    from sdkpack.host.registry import Registry, load_class
    from sdkpack.testing.bench import PlainContext
    from sdkpack_job.codec import decode

    row, half = _found(Registry.scan(), job)
    tool, request, folder = load_class(row, half.load)(), decode(job["request"]), Path(job["folder"])
    watch = _Watch(allowed=[folder / "work", folder / "log"])
    failed = ""
    try:
        with watch.watching():
            getattr(tool, job["method"])(request, PlainContext(folder / "work"))
    except SdkpackError as error:
        failed = str(error)
    return {"failed": failed, "writes": watch.writes, "sockets": watch.sockets}


def _sources(job: Mapping[str, Any]) -> dict[str, Any]:
    from sdkpack.host.registry import Registry, load_class
    from sdkpack.testing.damage import try_all
    from sdkpack_job.codec import decode

    row, half = _found(Registry.scan(), job)
    tool = load_class(row, half.load)()
    wrong, tried = [], 0
    for what, told in try_all(tool, decode(job["request"]), Path(job["folder"]), flips=job["flips"]):
        if told:
            wrong.append(f"{what}: {told}")
        else:
            tried += 1
            # Before each: a crash ends this process, and then this line says at what.
            print(what, file=sys.stderr, flush=True)  # noqa: T201
    return {"wrong": wrong, "tried": tried}


def _compile(job: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(job["folder"])
    request, compiler, _, _ = _prepared(job, folder)
    from sdkpack.testing.bench import PlainContext

    # The log is the kit's own.
    watch = _Watch(allowed=[folder / "work", folder / "log"])
    try:
        with watch.watching():
            compiler.compile(request, PlainContext(folder / "work"))
        failed = ""
    except SdkpackError as error:
        failed = str(error)
    return {"failed": failed, "writes": watch.writes, "sockets": watch.sockets}


def _damaged(job: Mapping[str, Any]) -> dict[str, Any]:
    from sdkpack.testing.bench import PlainContext, open_compiled

    folder = Path(job["folder"])
    request, compiler, facts, registry = _prepared(job, folder)
    (model,) = compiler.compile(request, PlainContext(folder / "work")).models
    wrong: list[str] = []
    paths = {file.path for part in model.parts for file in part.files if file.path.stat().st_size}
    for number, path in enumerate(sorted(paths)):
        content = path.read_bytes()
        for what, damaged in (("cut", content[: len(content) // 2]), ("empty", b"")):
            other = folder / f"{number}-{what}{path.suffix}"
            other.write_bytes(damaged)
            try:
                open_compiled(model, facts, registry, files={path: other}).close()
                wrong.append(f"{path.name}, {what}: it opened")
            except SdkpackError as error:
                if ": " in str(error) and "Traceback" in str(error):
                    wrong.append(f"{path.name}, {what}: {error}")
            except Exception as error:
                wrong.append(f"{path.name}, {what}: {type(error).__name__}: {error}")
    return {"wrong": wrong, "tried": len(paths)}


def _prepared(job: Mapping[str, Any], folder: Path) -> tuple[Any, Any, Any, Any]:
    import onnx

    from sdkpack.host.params import ParamSchema
    from sdkpack.host.registry import Registry
    from sdkpack.host.tools import ToolHost
    from sdkpack.plugin.runtime import CompileRequest
    from sdkpack.testing.bench import model_input

    registry = Registry.scan()
    row = registry.runtime(job["runtime"])
    assert row.info.compiler is not None
    compiler = ToolHost(environ=dict(os.environ)).open(row, row.info.compiler)
    source, facts = model_input(onnx.load(job["model"]), folder)
    (folder / "work").mkdir()
    params = ParamSchema(row.info).instance(job["params"])
    samples = {source.name: tuple(Path(path) for path in job["samples"])}
    request = CompileRequest(
        models=(source,), target="bench", params=params, precision=job["precision"], shapes=job["shapes"],
        samples=samples if job["samples"] else {},
    )  # fmt: skip
    return request, compiler, facts, registry


if __name__ == "__main__":
    sys.exit(main())
