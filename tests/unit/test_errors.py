"""Errors say what, where, got and expected, on a terminal and as JSON alike."""

from __future__ import annotations

import json

from sdkpack.errors import DocumentError, Problem, SdkpackError


def test_text_has_the_place_and_every_problem() -> None:
    problems = [
        Problem(path="a[0].b", message="wrong type", got="'1'", expected="a number"),
        Problem(path="", message="odd"),
    ]
    error = DocumentError("2 problems", where="recipe.toml", hint="mend it", problems=problems)
    assert str(error) == "recipe.toml: 2 problems\n  a[0].b: wrong type, expected a number, got '1'\n  odd"


def test_json_has_the_same_facts_and_no_empty_ones() -> None:
    problem = Problem(path="a", message="unknown key", hint="did you mean 'b'?")
    facts = DocumentError("a problem", where="r", hint="h", problems=[problem]).as_dict()
    assert json.loads(json.dumps(facts)) == {
        "code": "E102",
        "exit_code": 2,
        "message": "a problem",
        "where": "r",
        "hint": "h",
        "problems": [{"path": "a", "message": "unknown key", "hint": "did you mean 'b'?"}],
    }
    assert SdkpackError("x").as_dict() == {"code": "E100", "exit_code": 1, "message": "x"}
