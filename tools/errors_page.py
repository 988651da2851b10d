"""Writes docs/errors.md from sdkpack/errors.py: `python tools/errors_page.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from sdkpack import errors
from sdkpack.errors import SdkpackError

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"

HEAD = """\
# Errors and exit codes

Generated from `sdkpack/errors.py` by `python tools/errors_page.py`.

A code never changes its meaning. The command line prints `error CODE: message` and, where there is a next step,
`hint: ...`; with `--json` the same facts are one JSON object. In Python every error is a `sdkpack.errors.SdkpackError`
with `code`, `exit_code`, `message`, `hint`, `where` and `problems`.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a stated failure |
| 2 | wrong usage, or an invalid document |
| 3 | a bug in sdkpack or a plugin |
| 4 | verification failed |
| 5 | a plugin or toolchain is missing or broken |
| 6 | a quality gate is not met |
| 130 | interrupted |

| code | class | exit code | meaning |
| --- | --- | --- | --- |
"""


def classes() -> Iterable[type[SdkpackError]]:
    """Every error class, by code."""
    found = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, SdkpackError)]
    return sorted(found, key=lambda each: each.code)


def page() -> str:
    rows = (
        f"| {each.code} | `{each.__name__}` | {each.exit_code} | {inspect.getdoc(each).splitlines()[0]} |\n"
        for each in classes()
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
