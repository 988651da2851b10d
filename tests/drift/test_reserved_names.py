"""A pipeline's inputs are passed by keyword beside `Session.run`'s own keywords, so none may have their names."""

from __future__ import annotations

import inspect

from sdkpack.documents.pipeline import RESERVED_INPUTS
from sdkpack.session.session import Session


def test_reserved_inputs_are_the_keywords_of_run() -> None:
    parameters = inspect.signature(Session.run).parameters.values()
    assert {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} == RESERVED_INPUTS
    named = {each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
    assert not named, "a positional parameter that is not positional-only takes an input's name"
