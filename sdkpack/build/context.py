"""The surroundings of one build step: a folder, a log, progress, tools, and a way to be stopped."""

from __future__ import annotations

import errno
import logging
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sdkpack.build.progress import Reporter
from sdkpack.build.store import Store
from sdkpack.bundle.files import output_error
from sdkpack.errors import InternalError, InterruptedRunError, PluginError, SdkpackError, StepError
from sdkpack.host.process import INHERITED, run_tool

__all__ = ["BuildContext", "step_context"]

_LOG_NAME: Final = "log"
# What is wrong then is the disk below the store, not the step that met it.
_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


class BuildContext:
    """A `sdkpack.plugin.StepContext`."""

    def __init__(
        self,
        *,
        step: str,
        work: Path,
        log_file: Path,
        log: logging.Logger,
        reporter: Reporter,
        cancel: threading.Event,
        environment: Mapping[str, str],
        seed: int = 0,
    ) -> None:
        self.step = step
        self._work = work
        self._log_file = log_file
        self._log = log
        self._reporter = reporter
        self._cancel = cancel
        self._environment = environment
        self._seed = seed
        self.isolation: dict[str, str] = {}
        """What was enforced around the toolchains of this step."""

    @property
    def work(self) -> Path:
        return self._work

    @property
    def log(self) -> logging.Logger:
        return self._log

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def log_file(self) -> Path:
        return self._log_file

    def is_cancelled(self) -> bool:
        return self._cancel.is_set()

    def isolated(self, facts: Mapping[str, str]) -> None:
        self.isolation |= facts
        self._log.info("around the toolchain: %s", dict(facts))

    def aside(self, name: str) -> Path:
        """A new folder beside the work folder, for what the core itself needs during the step."""
        path = self._work.parent / name
        path.mkdir(mode=0o700)
        return path

    def inside(self, name: str) -> BuildContext:
        """The same surroundings with a new work folder below this one: for one of several things that a step does."""
        work = self._work / name
        count = 1
        while work.exists():
            count += 1
            work = self._work / f"{name}-{count}"
        work.mkdir(mode=0o700)
        made = BuildContext(
            step=self.step, work=work, log_file=self._log_file, log=self._log, reporter=self._reporter,
            cancel=self._cancel, environment=self._environment, seed=self._seed,
        )  # fmt: skip
        made.isolation = self.isolation
        return made

    def check_cancelled(self) -> None:
        """
        Raises:
            InterruptedRunError: the user wants to stop.
        """
        if self._cancel.is_set():
            raise InterruptedRunError("stopped by request", where=self.step)

    def progress(self, fraction: float | None, text: str = "") -> None:
        self.check_cancelled()
        if fraction is not None:
            fraction = min(max(fraction, 0.0), 1.0)
        self._reporter.progressed(self.step, fraction, text)

    def warn(self, text: str) -> None:
        """Tells the author of something that does not stop the build."""
        self._log.warning("%s", text)
        self._reporter.warned(f"{self.step}: {text}")

    def run(
        self, argv: Sequence[str], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[Any]:
        self.check_cancelled()
        # The tool's own settings and caches must not differ by user, and must not stay.
        inherited = {name: self._environment[name] for name in INHERITED if name in self._environment}
        home = {"HOME": str(self._work), "TMPDIR": str(self._work)}
        self._log.info("run %s", list(argv))
        with self._log_file.open("ab") as output:
            return run_tool(
                argv,
                folder=self._work,
                output=output,
                environment={**inherited, **home, **(env or {})},
                timeout_s=timeout_s,
                cancelled=self._cancel.is_set,
                where=self.step,
                log=self._log_file,
            )


@contextmanager
def step_context(
    step: str,
    *,
    plugin: str,
    store: Store,
    reporter: Reporter,
    cancel: threading.Event,
    environment: Mapping[str, str],
) -> Iterator[BuildContext]:
    """Makes a step's surroundings and takes them away again; a failed step's log is kept and named in the error."""
    with store.workspaces.work(step) as folder:
        work = folder / "work"
        work.mkdir(mode=0o700)
        log_file = folder / _LOG_NAME
        with _logger(step, log_file) as log:
            context = BuildContext(
                step=step, work=work, log_file=log_file, log=log, reporter=reporter, cancel=cancel,
                environment=environment,
            )  # fmt: skip
            try:
                yield context
            except InterruptedRunError:
                raise
            except SdkpackError as error:
                log.debug("step failed", exc_info=True)
                _name_log(error, log_file, store, step)
                raise
            except OSError as error:
                if error.errno not in _DISK:
                    raise _crash(error, step, plugin, log, log_file, store) from error
                raise output_error(error, store.root) from error
            except Exception as error:
                raise _crash(error, step, plugin, log, log_file, store) from error


def _crash(
    error: Exception, step: str, plugin: str, log: logging.Logger, log_file: Path, store: Store
) -> InternalError:
    log.debug("step crashed", exc_info=True)
    kept = _keep(log_file, store, step)
    return InternalError(
        f"step {step!r} ({plugin}) crashed: {type(error).__name__}: {error}", hint=f"see its log: {kept}"
    )


@contextmanager
def _logger(step: str, path: Path) -> Iterator[logging.Logger]:
    # A logger of its own, not one of the process's tree of names, which would keep it and its handler for ever.
    log = logging.Logger(f"sdkpack.build.{step}", logging.DEBUG)
    log.parent = logging.getLogger("sdkpack.build")
    handler = logging.FileHandler(path, encoding="utf-8", delay=False)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()


def _name_log(error: SdkpackError, log_file: Path, store: Store, step: str) -> None:
    kept = _keep(log_file, store, step)
    # What a tool wrote is named by where it was; that place is about to go.
    error.hint = error.hint.replace(str(log_file), str(kept))
    if isinstance(error, StepError | PluginError) and str(kept) not in error.hint:
        error.hint = f"{error.hint}; see its log: {kept}" if error.hint else f"see its log: {kept}"


def _keep(log_file: Path, store: Store, step: str) -> Path:
    try:
        return store.keep_log(log_file, "".join(char if char.isalnum() else "-" for char in step))
    except OSError:
        # A disk that is full must not hide what went wrong before.
        return log_file
