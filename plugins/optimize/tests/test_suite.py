"""All passes on ONNX's own backend suite, each case as it is and with all inputs but one made constants."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from plugins.optimize.tests.chain import differences, evaluate, interface, run_all
from sdkpack.testing.coverage.cases import Case, NoCaseError, load_cases

_SHARES = 6
_EVERY = 3
"""Of the suite's two thousand cases: most come in dozens that differ by a number."""
_RANDOM = re.compile("bernoulli|random|multinomial|training_dropout|dropout_default_mask")


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for case in load_cases() if not _RANDOM.search(case.name)][::_EVERY]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", range(_SHARES))
def test_the_backend_suite_computes_the_same(cases: list[Case], share: int, tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    wrong = []
    for case in cases[share::_SHARES]:
        for kind, model, inputs in _variants(case):
            try:
                expected = evaluate(model, inputs)
            except Exception:
                found["beyond the reference"] += 1
                continue
            work = tmp_path / f"{case.name}-{kind}"
            work.mkdir()
            chain = run_all(model, work)
            found["tried"] += 1
            made = chain.model
            if interface(made) != interface(model):
                wrong.append(f"{case.name} {kind}: interface")
            wrong += [f"{case.name} {kind}: {name}" for name in differences(evaluate(made, inputs), expected)]
            content = chain.path.read_bytes()
            if kind == "as it is":
                found["models"] += 1
                if run_all(model, _folder(work, "anew")).path.read_bytes() != content:
                    wrong.append(f"{case.name}: other bytes the second time")
            if run_all(made, _folder(work, "again")).changed:
                wrong.append(f"{case.name} {kind}: an optimised model is optimised again")
    assert not wrong
    # Six shares of them are more than the five hundred models that this test promises.
    assert found["models"] >= 500 / _SHARES, found


def _folder(work: Path, name: str) -> Path:
    path = work / name
    path.mkdir()
    return path


def _variants(case: Case) -> Iterator[tuple[str, onnx.ModelProto, dict[str, Any]]]:
    try:
        model = case.model()
        values, _ = next(iter(case.data_sets(model)))
    except (NoCaseError, StopIteration, TypeError, ValueError, OSError):
        return
    defaults = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in defaults]
    inputs = dict(zip(names, values, strict=False))
    yield "as it is", model, inputs
    later = names[1:]
    if later and all(isinstance(inputs.get(name), np.ndarray) for name in later):
        yield "constant", _with_constants(model, {name: inputs[name] for name in later}), {names[0]: inputs[names[0]]}


def _with_constants(model: onnx.ModelProto, constants: dict[str, Any]) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = [value for value in made.graph.input if value.name not in constants]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return made
