"""Every hook is documented with its exact signature, and tested."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from sdkpack.plugin import hookspecs

ROOT = Path(__file__).parent.parent.parent
HOOKS = [name for name in hookspecs.__all__ if name.startswith("sdkpack_")]


def test_all_hooks_are_listed() -> None:
    marked = {name for name, value in vars(hookspecs).items() if hasattr(value, "sdkpack_spec")}
    assert marked == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented(hook: str) -> None:
    page = (ROOT / "docs" / "plugins" / "hooks.md").read_text(encoding="utf-8")
    function = getattr(hookspecs, hook)
    returns = inspect.signature(function).return_annotation
    assert f"```python\ndef {hook}() -> {returns}\n```" in page
    assert inspect.getdoc(function) in page, "the page says it in the words of the hook's docstring"


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test(hook: str) -> None:
    tests = (ROOT / "tests" / "unit" / "host").glob("test_*.py")
    assert any(f"def {hook}(" in file.read_text(encoding="utf-8") for file in tests)


def test_no_hook_takes_arguments() -> None:
    assert all(not inspect.signature(getattr(hookspecs, hook)).parameters for hook in HOOKS)


def test_the_page_names_no_hook_that_is_not_there() -> None:
    page = (ROOT / "docs" / "plugins" / "hooks.md").read_text(encoding="utf-8")
    named = {line.split("(")[0].removeprefix("def ") for line in page.splitlines() if line.startswith("def sdkpack_")}
    assert named == set(HOOKS)
