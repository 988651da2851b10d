"""A `StepContext` inside a job."""

import json
import os
import time
from pathlib import Path

_EVERY_S = 0.05


class JobContext:
    """Progress goes to a file, the log to standard error, which is the job's log."""

    def __init__(self, folder, work, seed):
        self.work = Path(work)
        self.seed = seed
        self._progress = os.path.join(folder, "progress.ndjson")
        self._told = 0.0

    @property
    def log(self):
        """Loaded at the first use: importing it takes longer than many a job."""
        import logging

        logger = logging.getLogger("job")
        if not logger.handlers:
            logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
        return logger

    def progress(self, fraction, text=""):
        """Tells how far the job is. A cancelled job is ended from outside, so nothing is raised here."""
        now = time.monotonic()
        if now - self._told < _EVERY_S and fraction not in (0, 1):
            return
        self._told = now
        with open(self._progress, "a", encoding="utf-8") as out:
            out.write(json.dumps({"fraction": fraction, "text": str(text)}) + "\n")

    def run(self, argv, *, timeout_s=None, env=None):
        """Runs a tool in the work folder, its output in the log."""
        import subprocess

        name = str(argv[0])
        try:
            done = subprocess.run(
                [str(part) for part in argv], cwd=str(self.work), env={**os.environ, **(env or {})}, timeout=timeout_s,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _step_error("{!r} took longer than {:g} s".format(name, timeout_s)) from None
        except OSError as error:
            raise _step_error("cannot start {!r}: {}".format(name, (error.strerror or str(error)).lower())) from error
        if done.returncode:
            outcome = "failed with exit code" if done.returncode > 0 else "was ended by signal"
            raise _step_error("{!r} {} {}".format(name, outcome, abs(done.returncode)))
        return done


def _step_error(message):
    try:
        from sdkpack.errors import StepError
    except (ImportError, SyntaxError, TypeError):
        from sdkpack_job import JobError as StepError
    return StepError(message)
