"""What runs inside a toolchain's own environment: the standard library alone, Python 3.8 or later.

`python -m sdkpack_job JOB` reads the job folder, runs one method of one class, and writes the answer; see
docs/plugins/isolation.md. A class for Python 3.8 or 3.9, where `sdkpack.plugin` cannot be imported, gets its request as
a `Record` and answers with one.
"""

from types import SimpleNamespace

__all__ = ["JobError", "Record"]


class Record(SimpleNamespace):
    """Named values: a request or a result, with the fields that the plugin API documents."""


class JobError(Exception):
    """A failure that is told to the user, for classes that cannot import `sdkpack.errors`.

    Args:
        message: what is wrong; lower case, no full stop.
        hint: what to do about it.
        kind: `model` where the input is at fault, else `step`.
    """

    def __init__(self, message, hint="", kind="step"):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = "E301" if kind == "model" else "E304"
