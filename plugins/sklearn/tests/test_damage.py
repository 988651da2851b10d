"""Damaged files: a model or an error that says so, never another exception."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugins.sklearn.tests.conftest import run
from sdkpack.host.environments import Environment

SUFFIXES = (".joblib", ".skops", ".json", ".ubj", ".txt")


@pytest.fixture(scope="module")
def outcomes(environment: Environment, models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    out = tmp_path_factory.mktemp("damage") / "out.json"
    run(environment, "damage.py", models, out)
    found: dict[str, dict[str, int]] = json.loads(out.read_text())
    return {kind: set(counts) for kind, counts in found.items()}


@pytest.mark.parametrize("kind", ["empty", "foreign", "truncated"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_whole_file_is_refused(suffix: str, kind: str, outcomes: dict[str, set[str]]) -> None:
    assert outcomes[f"{suffix} {kind}"] == {"ModelError"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_gives_a_model_or_an_error(suffix: str, outcomes: dict[str, set[str]]) -> None:
    # A bit of a weight gives another model: no format here has a checksum. A crash is told by the host (test_host.py).
    assert outcomes[f"{suffix} flipped"] <= {"ModelError", "StepError", "converted", "crash"}
