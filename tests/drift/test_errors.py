"""Error codes are unique, exported and documented."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from sdkpack import errors

ROOT = Path(__file__).parent.parent.parent


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "tools" / "errors_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


def test_page_is_the_generated_one() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == TOOL.page(), "docs/errors.md is out of date; regenerate: python tools/errors_page.py"


def test_codes_are_unique_and_well_formed() -> None:
    codes = [each.code for each in TOOL.classes()]
    assert len(codes) == len(set(codes))
    assert all(len(code) == 4 and code[0] == "E" and code[1:].isdigit() for code in codes)


def test_every_class_states_its_own_code() -> None:
    assert [each.__name__ for each in TOOL.classes() if "code" not in vars(each)] == []


def test_every_class_is_exported_and_explained() -> None:
    for each in TOOL.classes():
        assert each.__name__ in errors.__all__
        assert each.__doc__


def test_exit_codes_are_those_of_the_page() -> None:
    documented = {
        int(line.split("|")[1]) for line in TOOL.HEAD.splitlines() if line.startswith("| ") and line[2].isdigit()
    }
    assert {each.exit_code for each in TOOL.classes()} <= documented


def test_verification_failures_all_exit_with_4() -> None:
    assert {each.exit_code for each in TOOL.classes() if issubclass(each, errors.BundleError)} == {4}
