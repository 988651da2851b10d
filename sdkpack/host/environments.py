"""Environments of toolchains: built at the first use, proven by a smoke test, shared, kept.

    ROOT/cp311-HASH/             an environment; `complete.json` in it says that it may be used
    ROOT/cp311-HASH.lock         held alone while it is built or removed, shared while a job runs in it
    ROOT/logs/cp311-HASH.log     what its installer printed

The name says the version of Python and the digest of the requirements. A folder without the marker is the left-over
of a killed build, since a running one holds the lock; it is removed and built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from sdkpack.errors import InterruptedRunError, OutputError, PluginBrokenError, PluginError, StepError, UsageError
from sdkpack.host.environment import (
    MARKER,
    Environment,
    distributions_in,
    read_environment,
    size_of,
    write_environment,
)
from sdkpack.host.installing import Installer, python_of
from sdkpack.host.process import outcome
from sdkpack.host.pythons import Python, find_python, matches
from sdkpack.host.sandbox import Limits, run_sandboxed
from sdkpack.plugin.info import EnvironmentSpec

__all__ = ["Environment", "Environments", "default_environments", "worker_variables"]

_NAME: Final = re.compile(r"cp\d+-[0-9a-f]{20}")
_LOCK_POLL_S: Final = 0.1
_SMOKE_LIMIT_S: Final = 300.0


def default_environments(environ: Mapping[str, str]) -> Path:
    """`SDKPACK_ENVIRONMENTS`, else `sdkpack/environments` in the user's cache folder."""
    if environ.get("SDKPACK_ENVIRONMENTS"):
        return Path(environ["SDKPACK_ENVIRONMENTS"])
    cache = environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if cache.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "sdkpack" / "environments"


class Environments:
    """The environments below `root`. Safe for several threads and processes.

    Args:
        root: made where it is absent, for its owner alone.
        environ: the user's: it says where Pythons and package indexes are.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root.absolute()
        self._environ = environ

    def find(self, spec: EnvironmentSpec) -> Environment | None:
        """A complete environment for `spec`, proven by its smoke test; nothing is built or run."""
        found = self._any(spec)
        return found if found is not None and _digest(spec.smoke_test) in found.smoked else None

    def ensure(
        self,
        spec: EnvironmentSpec,
        *,
        plugin: str,
        tell: Callable[[str], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Environment:
        """An environment for `spec`, built now where there is none. Of several that ask at once, one builds.

        Args:
            spec: what must be in it.
            plugin: who asks, for messages.
            tell: told before a build begins, and while another one's is waited for.
            cancelled: asked several times a second.
            progress: told while it is built how far that is.

        Raises:
            PluginError: it cannot be built: no such Python, no such requirement, a broken index.
            PluginBrokenError: it was built and does not pass its smoke test.
            OutputError: the disk is full.
            InterruptedRunError: `cancelled` became true.
        """
        if (found := self.find(spec)) is not None:
            return found
        _check(spec, plugin)
        known = self._any(spec)
        python = Python(executable=known.python, version=known.python_version) if known else self._python(spec, plugin)
        folder = self.root / self._name(spec, python.version)
        self._make_root()
        with self._locked(folder, fcntl.LOCK_EX, tell, cancelled):
            found = read_environment(folder)
            if found is None:
                tell(f"building an environment for {plugin!r}{_about(spec)}: {', '.join(spec.requirements) or 'empty'}")
                found = self._build(folder, spec, python, plugin, cancelled, progress)
            if _digest(spec.smoke_test) not in found.smoked:
                # An environment that others share keeps what it has proven to them.
                found = self._smoke(found, spec, plugin, cancelled)
            return found

    def all(self) -> tuple[Environment, ...]:
        """Every complete environment, by name."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return tuple(found for folder in folders if folder.is_dir() and (found := read_environment(folder)) is not None)

    def check(self, environment: Environment, spec: EnvironmentSpec | None = None) -> str:
        """Looks whether an environment is still what it was when it was built.

        Returns:
            What is wrong, empty where nothing is.
        """
        installed = distributions_in(environment.folder)
        if installed != environment.distributions:
            odd = sorted(set(installed.items()) ^ set(environment.distributions.items()))
            return f"its packages changed since it was built: {', '.join(name for name, _ in odd[:5])}"
        if not environment.python.exists():
            return f"its Python is gone: {environment.python.readlink()}"
        if spec is not None:
            try:
                with self.using(environment):
                    self._smoke(environment, spec, environment.name, lambda: False)
            except (PluginError, StepError) as error:
                return error.message
        return ""

    def enforced(self) -> dict[str, str]:
        """What this machine enforces around a job: measure -> what, or `not enforced: REASON`."""
        with tempfile.TemporaryDirectory(prefix="sdkpack-") as parent, Path(parent, "log").open("wb") as output:
            done = run_sandboxed(
                ["/bin/true"], folder=Path(parent), work=Path(parent), output=output, environment={}, readable=[],
                writable=[], limits=Limits.default(time_s=_SMOKE_LIMIT_S), network=False, cancelled=lambda: False,
                where="a job that does nothing",
            )  # fmt: skip
        return dict(done.enforced)

    def remove(self, name: str) -> int:
        """Removes an environment; how many bytes that freed.

        Raises:
            UsageError: there is none of this name.
            OutputError: it is in use.
        """
        folder = self.root / name
        # By the form of the name, not by what a path library makes of it: `..` is a name to one, and a folder.
        if not _NAME.fullmatch(name) or not folder.is_dir():
            have = ", ".join(found.name for found in self.all()) or "none"
            raise UsageError(f"there is no environment {name!r}, there is {have}")
        with self._lock_file(folder) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"environment {name!r} is in use", hint="wait until its job is done") from None
            size = size_of(folder)
            # First what says that it is whole: a removal that is interrupted leaves a left-over, not a trap.
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder)
        return size

    @contextmanager
    def using(self, environment: Environment) -> Iterator[None]:
        """Keeps an environment from being removed."""
        with self._locked(environment.folder, fcntl.LOCK_SH, lambda _: None, lambda: False):
            yield

    # Inner --------------------------------------------------------------------------------------------------------
    def _any(self, spec: EnvironmentSpec) -> Environment | None:
        """Of the environments with these requirements the one of the newest fitting Python; an absent version is not
        looked for again while one is there."""
        own = tuple(int(part) for part in platform.python_version_tuple()[:2])
        found = [
            one
            for folder in (self.root.glob(f"*-{_requirements_digest(spec)}") if self.root.is_dir() else ())
            if (one := read_environment(folder)) is not None and matches(spec.python, one.python_version)
        ]
        fitting = [one for one in found if spec.python or one.python_version[:2] == own]
        return max(fitting, key=lambda one: (one.python_version[:2] == own, one.python_version), default=None)

    def _python(self, spec: EnvironmentSpec, plugin: str) -> Python:
        try:
            return find_python(spec.python, self._environ)
        except PluginError as error:
            error.where = f"the environment of {plugin!r}"
            raise

    def _name(self, spec: EnvironmentSpec, version: tuple[int, int, int]) -> str:
        return f"cp{version[0]}{version[1]}-{_requirements_digest(spec)}"

    def _build(
        self,
        folder: Path,
        spec: EnvironmentSpec,
        python: Python,
        plugin: str,
        cancelled: Callable[[], bool],
        progress: Callable[[str], None],
    ) -> Environment:
        if folder.exists():
            shutil.rmtree(folder)
        free = shutil.disk_usage(self.root).free
        if spec.size_bytes > free:
            raise OutputError(
                f"the environment of {plugin!r} takes about {spec.size_bytes >> 20} MiB, {free >> 20} MiB are free",
                where=str(self.root), hint="free some space, or name another folder in SDKPACK_ENVIRONMENTS",
            )  # fmt: skip
        try:
            with self._log(folder.name) as (log, output):
                installer = Installer(
                    environ=self._environ, output=output, log=log, cancelled=cancelled, progress=progress
                )
                installer.build(folder, python, spec.requirements)
            made = Environment(
                folder=folder, requirements=tuple(sorted(spec.requirements)), python_version=python.version,
                base_prefix=_base_prefix(folder), distributions=distributions_in(folder), smoked=(),
                size_bytes=size_of(folder),
            )  # fmt: skip
            progress("its smoke test")
            return self._smoke(made, spec, plugin, cancelled)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise OutputError(
                    f"the environment of {plugin!r} cannot be built: {(error.strerror or str(error)).lower()}",
                    where=str(self.root), hint="free some space, or name another folder in SDKPACK_ENVIRONMENTS",
                ) from error  # fmt: skip
            if isinstance(error, PluginError | OutputError) and not error.where:
                error.where = f"the environment of {plugin!r}"
            raise

    def _smoke(
        self, environment: Environment, spec: EnvironmentSpec, plugin: str, cancelled: Callable[[], bool]
    ) -> Environment:
        """Runs the smoke test as jobs run, and remembers that it passed."""
        job = self.root / f"{environment.name}.smoke-{os.getpid()}-{time.monotonic_ns()}"
        work = job / "work"
        job.mkdir(mode=0o700)
        work.mkdir(mode=0o700)
        try:
            with self._log(f"{environment.name}.smoke") as (log, output):
                done = run_sandboxed(
                    [str(environment.python), "-I", "-c", spec.smoke_test], folder=job, work=work, output=output,
                    environment=worker_variables(work, work, environment.folder / "bin"),
                    readable=environment.readable, writable=[work], limits=Limits.default(time_s=_SMOKE_LIMIT_S),
                    network=False, cancelled=cancelled, where=f"the smoke test of {plugin!r}",
                )  # fmt: skip
                output.flush()
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        finally:
            shutil.rmtree(job, ignore_errors=True)
        if done.code != 0:
            raise PluginBrokenError(
                f"its smoke test {outcome(done.code)}" + (f": {said[-1][:300]}" if said else ""),
                where=f"the environment of {plugin!r}",
                hint=f"its requirements install, but do not work together; see {log}",
            )
        smoked = tuple(sorted({*environment.smoked, _digest(spec.smoke_test)}))
        proven = Environment(
            folder=environment.folder, requirements=environment.requirements,
            python_version=environment.python_version, base_prefix=environment.base_prefix,
            distributions=environment.distributions, smoked=smoked, size_bytes=environment.size_bytes,
        )  # fmt: skip
        write_environment(proven)
        return proven

    def _make_root(self) -> None:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.root / "logs").mkdir(mode=0o700, exist_ok=True)
            self._clean_leftovers()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"cannot make the folder of environments: {reason}", where=str(self.root),
                hint="name another folder in SDKPACK_ENVIRONMENTS",
            ) from error  # fmt: skip

    def _clean_leftovers(self) -> None:
        """Removes the folders of smoke tests whose sdkpack was killed."""
        for path in self.root.glob("*.smoke-*"):
            owner = path.name.rpartition(".smoke-")[2].partition("-")[0]
            if not Path("/proc", owner).exists():
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _log(self, name: str) -> Iterator[tuple[Path, IO[bytes]]]:
        path = self.root / "logs" / f"{name}.log"
        with path.open("wb") as output:
            yield path, output

    @contextmanager
    def _lock_file(self, folder: Path) -> Iterator[int]:
        fd = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _locked(
        self, folder: Path, kind: int, tell: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> Iterator[None]:
        with self._lock_file(folder) as lock:
            told = False
            while True:
                try:
                    fcntl.flock(lock, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        tell("waiting for another sdkpack that builds this environment")
                        told = True
                    if cancelled():
                        raise InterruptedRunError("stopped by request") from None
                    time.sleep(_LOCK_POLL_S)
            yield


def worker_variables(home: Path, temporary: Path, *folders: Path) -> dict[str, str]:
    """All of a toolchain's environment variables: nothing of the user's, whose tokens and proxies stand there too.

    Only `folders` are on its PATH: the machine's own hold a pip.
    """
    return {
        "PATH": os.pathsep.join(map(str, folders)),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def _check(spec: EnvironmentSpec, plugin: str) -> None:
    for text in spec.requirements:
        # In a requirements file such a line would be an option: another index, say.
        if text.lstrip().startswith("-") or "\n" in text or not text.strip():
            raise PluginBrokenError(f"plugin {plugin!r} asks for {text!r}, which is no requirement")


def _requirements_digest(spec: EnvironmentSpec) -> str:
    text = "\n".join(sorted({"".join(text.split()) for text in spec.requirements}))
    return hashlib.sha256(f"{platform.machine()}\n{text}".encode()).hexdigest()[:20]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _base_prefix(folder: Path) -> Path:
    """From `home = .../bin` in the file that makes a folder an environment (PEP 405)."""
    real = python_of(folder).resolve()
    return real.parent.parent


def _about(spec: EnvironmentSpec) -> str:
    return f" (about {spec.size_bytes >> 20} MiB)" if spec.size_bytes else ""
